"""Reports that compare something else than pools."""

import pandas as pd
import pytest

from poolbench.report import make_report, write_made
from tests.commands import run_poolbench
from tests.report.synthetic import make_config, write_cell


def write_heads(runs, pools=("max",), epochs=(8,), accuracies=None):
    """Cells of three heads, four seeds each."""
    accuracies = accuracies or {"global_average": 0.8, "gem": 0.82, "flatten": 0.78}
    for pool in pools:
        for many in epochs:
            for place, (head, accuracy) in enumerate(accuracies.items()):
                for seed in range(4):
                    config = make_config(pool, seed, trainer__epochs=many)
                    config["head"] = {"_target_": f"poolbench.heads.{head.title()}"}
                    config["names"]["head"] = head
                    config["run_id"] = f"{pool}-{head}-{many}-s{seed}"
                    write_cell(runs, config, test_accuracy=accuracy + 0.003 * seed + 0.0007 * ((seed + place) % 3))
    return runs


def test_heads_become_one_table_by_themselves(tmp_path):
    report = make_report(write_heads(tmp_path))
    assert report.factor == ("head",)
    (rows,) = [rows for rows, _ in report.groups]
    assert rows["pool"].tolist() == ["gem", "global_average", "flatten"]
    assert rows.set_index("pool")["verdict"].to_dict()["gem"] == "higher"
    assert rows.set_index("pool")["baseline"].to_dict()["global_average"]
    assert "global_average (baseline)" in report.text
    assert report.text.splitlines()[0] == "max, convnet, cifar10, 8 epochs"
    assert any(drawing.title.startswith("Test accuracy of 3 heads") for drawing in report.drawings)


def test_columns_are_named_after_what_is_compared(tmp_path):
    report = write_made(
        make_report(write_heads(tmp_path / "runs", pools=("max", "lp")), compare="head"), tmp_path / "out"
    )
    for name in ("summary.csv", "cells.csv"):
        table = pd.read_csv(tmp_path / "out" / name)
        assert sorted(set(table["head"])) == ["flatten", "gem", "global_average"]
        assert sorted(set(table["pool"])) == ["lp", "max"]
    assert report.over.empty  # heads of one net
    assert "| head | seeds |" in (tmp_path / "out" / "summary.md").read_text()


def test_pools_are_compared_where_they_vary_and_nothing_is_said(tmp_path):
    report = make_report(write_heads(tmp_path, pools=("max", "lp")))
    assert report.factor == ("pool",)
    assert len(report.groups) == 3


def test_two_things_are_crossed(tmp_path):
    report = make_report(write_heads(tmp_path, pools=("max", "lp")), compare="pool,head")
    (rows,) = [rows for rows, _ in report.groups]
    assert len(rows) == 6
    assert rows[rows["baseline"]]["pool"].tolist() == ["max + global_average"]


def test_a_report_of_something_else_is_not_replaced_in_silence(tmp_path):
    runs = write_heads(tmp_path / "runs", pools=("max", "lp"))
    first = write_made(make_report(runs), tmp_path / "out")
    again = write_made(make_report(runs), tmp_path / "out")
    other = write_made(make_report(runs, compare="head"), tmp_path / "out")
    assert (first.replaced, again.replaced, other.replaced) == ("", "", "pool")
    assert "held a report that compares pool; this one, of head," in " ".join(other.text.split())


def test_the_command_names_the_folder_after_what_it_compares(tmp_path):
    write_heads(tmp_path / "runs", epochs=(4, 8))
    done = run_poolbench(tmp_path, "report", "runs", "--compare", "trainer.epochs")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "report/by-trainer.epochs/index.html").is_file()
    assert "epochs=4 (baseline)" in done.stdout
    wrong = run_poolbench(tmp_path, "report", "runs", "--compare", "heads")
    assert wrong.returncode == 2
    assert "there is no 'heads' in these records. Did you mean 'head'?" in wrong.stderr
    unknown = run_poolbench(tmp_path, "report", "runs", "--compare", "head", "--baseline", "max")
    assert "there is no head 'max' here" in unknown.stderr


@pytest.mark.parametrize("compare", ["model", "data"])
def test_nets_and_data_can_be_compared(tmp_path, compare):
    for name in ("one", "other"):
        for seed in range(3):
            config = make_config("max", seed)
            config[compare] = {"_target_": f"mine.{name}", **({"validation": 0.0} if compare == "data" else {})}
            config["names"][compare] = name
            config["run_id"] = f"{name}-{seed}"
            write_cell(tmp_path, config, test_accuracy=0.7 + 0.01 * seed + (0.05 if name == "one" else 0))
    report = make_report(tmp_path)
    assert report.factor == (compare,)
    ((rows, notes),) = report.groups
    found = rows.set_index("pool")["verdict"].to_dict()["other"]
    assert found == ("lower" if compare == "model" else "cannot tell")
    assert any("Never met the baseline" in note for note in notes) == (compare == "data")
