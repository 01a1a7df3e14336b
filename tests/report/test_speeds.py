"""Ratios of time in a report: of nets that were timed in turn, to the table's own baseline."""

import json

import pandas as pd
import pytest

from poolbench.cli.main import main
from poolbench.report import write_report
from poolbench.report.latex import latex
from poolbench.report.tables import markdown
from tests.report.synthetic import make_config, make_runs, speeds_of, write_cell

TIMES = {  # milliseconds by round: the machine does much else, to all of them alike
    "average": [9.0, 45.0, 27.0, 40.0, 18.0],
    "max": [10.0, 50.0, 30.0, 40.0, 20.0],
    "lp": [12.0, 60.0, 36.0, 44.0, 26.0],
}
COLUMNS = [f"train_time_ratio{end}" for end in ("", "_low", "_high")]


def speeds_file(path, timed=TIMES, **changes):
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(speeds_of(timed, **changes)))
    return path


def reported(folder, **options):
    return write_report(folder / "runs", folder / "out", **options)


def times(report):
    return report.summary.set_index("pool")[COLUMNS]


def notes(report):
    return " ".join(report.groups[0][1])


@pytest.fixture
def work(tmp_path):
    make_runs(tmp_path / "runs", ["max", "average", "lp", "subsample"], 2)
    return tmp_path


def test_ratios_are_taken_within_rounds_to_the_baseline_of_the_table(work):
    file = speeds_file(work / "kept.json")  # its own baseline is average
    rows = times(reported(work, speeds=[file]))
    for pool, (ratio, low, high) in {"max": (1, 1, 1), "average": (0.9, 0.9, 0.9), "lp": (1.2, 1.2, 1.2)}.items():
        assert rows.loc[pool].tolist() == pytest.approx([ratio, low, high])
    assert rows.loc["subsample"].isna().all()
    rows = times(reported(work, speeds=[file], baseline="average"))
    assert rows.loc["average"].tolist() == [1, 1, 1]
    assert rows.loc["max"].tolist() == pytest.approx([10 / 9, 10 / 9, 10 / 9])


def test_a_table_without_max_is_told_against_native(work):
    make_runs(work / "runs", ["native", "lp"], 3, model__widths=[8], names__model="lenet")
    speeds_file(work / "kept.json", {"lp": [15.0, 30.0], "native": [10.0, 20.0]}, model__widths=[8])
    report = reported(work, speeds=[work / "kept.json"])
    rows = report.summary.set_index(["model", "pool"])
    assert rows[rows["baseline"]].index.tolist() == [("convnet", "max"), ("lenet", "native")]
    assert rows.loc[("lenet", "lp"), "train_time_ratio"] == pytest.approx(1.5)
    assert rows.loc[("lenet", "lp"), "blocks"] == 3
    assert pd.isna(rows.loc[("convnet", "lp"), "train_time_ratio"])
    alone = reported(work, baseline="max").summary.set_index(["model", "pool"])
    assert not alone.loc[("lenet", "native"), "baseline"]  # what is named is what is meant


def test_the_median_and_quartiles_over_rounds_are_shown(work):
    speeds_file(work / "runs/speeds.json", {"max": [10.0] * 5, "lp": [10.0, 11.0, 12.5, 13.0, 200.0]})
    report = reported(work)
    row = report.summary.set_index("pool").loc["lp"]
    assert row[COLUMNS].tolist() == pytest.approx([1.25, 1.1, 1.3])
    assert row["forward_time_ratio"] == pytest.approx(1.25)  # of the largest batch
    written = (work / "out/summary.md").read_text()
    for text in (report.text, written, latex(report.groups).replace("{[}", "[").replace("{]}", "]").replace("~", " ")):
        assert "1.25 [1.10, 1.30]" in text.replace("\N{NO-BREAK SPACE}", " ")
        assert "train time x" in text
        assert "images/s" not in text
    head, _, *table = ([cell.strip() for cell in line.split("|")] for line in written.splitlines() if "|" in line)
    column = head.index("forward time x")
    assert {row[1]: row[column] for row in table} == {
        "max (baseline)": "1",
        "lp": "1.25 [1.10, 1.30]",
        "average": "–",
        "subsample": "–",
    }


def test_notes_say_where_ratios_come_from_and_what_was_not_timed(work):
    file = speeds_file(work / "kept.json")
    said = notes(reported(work, speeds=[file]))
    assert "Times: 5 rounds in turn on 2 threads of AMD EPYC (torch 2.15.0, fp32), passes of 128 images" in said
    assert "of 32x32 pixels (kept.json)." in said
    assert "Not among the nets that were timed: subsample." in said
    assert "other sizes" not in said
    content = speeds_of(TIMES)
    content["settings"]["load_per_core"] = 0.94
    file.write_text(json.dumps(content))
    assert "with a load of 0.9 a core by others (kept.json)" in notes(reported(work, speeds=[file]))


def test_cells_that_trained_at_other_sizes_are_told(tmp_path):
    make_runs(tmp_path / "runs", ["max", "lp"], 2, trainer__sizes=[16, 32])
    report = reported(tmp_path, speeds=[speeds_file(tmp_path / "kept.json")])
    assert times(report).loc["lp"].notna().all()
    assert "whole images; the cells trained at other sizes too" in notes(report)


def test_without_a_record_there_is_no_column_and_no_time(work):
    report = reported(work)
    assert times(report).isna().all(axis=None)
    for text in (report.text, (work / "out/summary.md").read_text(), latex(report.groups)):
        lines = [line for line in text.splitlines() if "acc." in line or "parameters" in line]
        assert lines
        assert not any("time x" in line or "images/s" in line or "cell s" in line for line in lines)
    assert "Times:" not in notes(report)
    assert "images_per_second" in pd.read_csv(work / "out/cells.csv").columns


@pytest.mark.parametrize(
    "changes",
    [
        {"pool__kernel_size": 3},
        {"head__hidden": [10]},
        {"model__widths": [32, 64, 96]},
        {"trainer__precision": "bf16"},
        {"trainer__channels_last": False},
    ],
    ids=str,
)
def test_nets_of_other_options_lend_no_time(tmp_path, changes):
    make_runs(tmp_path / "runs", ["max", "lp"], 2, **changes)
    report = reported(tmp_path, speeds=[speeds_file(tmp_path / "kept.json")])
    assert times(report).isna().all(axis=None)
    assert "Times:" not in notes(report)


def test_one_pool_of_other_options_has_a_dash(work):
    for seed in range(2):
        write_cell(work / "runs", make_config("lp", seed, pool__kernel_size=3))
    rows = times(reported(work, speeds=[speeds_file(work / "kept.json")]))
    assert rows.loc["lp(kernel_size=2)"].tolist() == pytest.approx([1.2, 1.2, 1.2])
    assert rows.loc["lp(kernel_size=3)"].isna().all()


def test_without_the_baseline_there_is_no_ratio(work):
    file = speeds_file(work / "kept.json", {pool: TIMES[pool] for pool in ("average", "lp")})
    assert times(reported(work, speeds=[file])).isna().all(axis=None)


def test_the_first_record_that_holds_both_nets_counts(work):
    lacks = speeds_file(work / "lacks.json", {pool: TIMES[pool] for pool in ("average", "lp")})
    first = speeds_file(work / "first.json", {"max": [1.0, 1.0], "lp": [3.0, 3.0]})
    report = reported(work, speeds=[lacks, first, speeds_file(work / "second.json")])
    assert times(report)["train_time_ratio"].dropna().to_dict() == pytest.approx({"max": 1, "lp": 3, "average": 0.9})
    said = notes(report)
    assert "lacks.json" not in said
    assert said.index("(first.json)") < said.index("(second.json)")


def test_each_table_has_its_own_nets(tmp_path):
    runs = make_runs(tmp_path / "runs", ["max", "lp"], 2)
    make_runs(runs, ["max", "lp"], 2, names__model="resnet", model__widths=[8])
    report = reported(tmp_path, speeds=[speeds_file(tmp_path / "kept.json", {"max": [1.0], "lp": [2.0]})])
    found = report.summary.set_index(["model", "pool"])["train_time_ratio"]
    assert found.dropna().to_dict() == {("convnet", "max"): 1, ("convnet", "lp"): 2}
    text = markdown(report.groups, "the rule")
    assert text.count("train time x |") == 1


def test_a_record_beside_an_archive_or_records_is_found(work):
    first = reported(work, archive=True)
    assert times(first).isna().all(axis=None)
    speeds_file(work / "out/speeds.json")
    beside = write_report(work / "out/records.jsonl", work / "again")
    assert times(beside).loc["lp"].notna().all()
    speeds_file(work / "runs/speeds.json")
    for source in (work / "runs", sorted((work / "runs").glob("*-s*"))):
        assert times(write_report(source, work / "own")).loc["lp"].notna().all()


def test_a_broken_file_beside_records_hides_no_table(work):
    (work / "runs/speeds.json").write_text("[")
    report = reported(work)
    assert "Not read: " in report.text
    assert "speeds.json: cannot be parsed" in report.text
    assert "could not be read" not in (work / "out/summary.md").read_text()  # that is said of records


def test_a_file_is_named_on_the_command_line(work, capsys):
    file = speeds_file(work / "kept.json")
    other = speeds_file(work / "other.json", {"max": [1.0], "subsample": [2.0]})
    command = ["report", str(work / "runs"), "--output", str(work / "out"), "--speeds", str(file)]
    assert main([*command, "--speeds", str(other)]) == 0
    out = capsys.readouterr().out
    assert "1.20 [1.20, 1.20]" in out
    assert "2.00 [2.00, 2.00]" in out
    file.write_text('{"schema_version": 9}')
    assert main(command) == 2
    assert "kept.json: schema_version is 9, this poolbench reads 1; it must be what" in capsys.readouterr().err


def test_nets_of_a_real_bench_are_those_of_real_cells(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("poolbench.measure.net_speed.resident_growth", lambda net, setting: None)
    monkeypatch.chdir(tmp_path)
    net = ["data=shapes", "data.size=16", "model.widths=[4,8]", "model.depths=[1,1]"]
    short = ["--rounds", "2", "--seconds", "0.001", "--batch", "2", "--json", "runs/speeds.json"]
    (tmp_path / "runs").mkdir()
    assert main(["bench", "nets", "pool=max,lp", *net, *short]) == 0
    other = ["data.train_samples=200", "data.test_samples=100", "trainer.epochs=0", "optimizer.lr=0.3", "seed=3"]
    for pool in ("max", "lp"):
        assert main(["run", f"pool={pool}", *net, *other]) == 0
    capsys.readouterr()
    rows = times(write_report("runs", "out"))
    assert rows.loc["max"].tolist() == [1, 1, 1]
    assert (rows.loc["lp"] > 0).all()


def test_heads_that_were_timed_in_turn_have_times_in_their_table(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("poolbench.measure.net_speed.resident_growth", lambda net, setting: None)
    monkeypatch.chdir(tmp_path)
    net = ["data=shapes", "data.size=16", "model.widths=[4,8]", "model.depths=[1,1]"]
    short = ["--rounds", "2", "--seconds", "0.001", "--batch", "2", "--json", "runs/speeds.json"]
    (tmp_path / "runs").mkdir()
    heads = ("gem", "global_average", "flatten")
    assert main(["bench", "nets", f"head={','.join(heads)}", *net, *short, "--compare", "head"]) == 0
    for head in heads:
        assert main(["run", f"head={head}", *net, "data.train_samples=200", "trainer.epochs=0"]) == 0
    capsys.readouterr()
    rows = times(write_report("runs", "out"))
    assert rows.loc["global_average"].tolist() == [1, 1, 1]
    assert (rows.loc[["gem", "flatten"]] > 0).all(axis=None)
