"""The commands as functions: the same numbers and words, as DataFrames, figures and exceptions; nothing is printed."""

import json
import os
import subprocess
import sys

import pandas as pd
import pytest
from matplotlib.figure import Figure

from poolbench import api
from poolbench.cli.main import main
from tests.report.synthetic import make_config, write_cell
from tests.report.test_compare import write_heads
from tests.sweep.tiny import TINY


@pytest.fixture(scope="module")
def swept(tmp_path_factory):
    """A sweep of two cells trained by the api, its folder, and what progress told."""
    folder = tmp_path_factory.mktemp("swept")
    told = []
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        result = api.sweep(*TINY, pool=["max", "average"], progress=told.append)
    return result, folder, told


@pytest.fixture
def here(swept, monkeypatch):
    monkeypatch.chdir(swept[1])
    return swept[1]


@pytest.fixture
def recorded(tmp_path, monkeypatch):
    """Invented records in ``runs``."""
    for pool in ("max", "average"):
        for seed in range(3):
            write_cell(tmp_path / "runs", make_config(pool, seed))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def printed(capsys, *arguments):
    assert main([str(argument) for argument in arguments]) == 0
    return capsys.readouterr().out


def test_a_sweep_leaves_records_and_nothing_else(swept, here):
    result, folder, _ = swept
    assert {path.name for path in folder.iterdir()} == {"runs"}
    assert sorted(result.records["pool"]) == ["average", "max"]
    assert result.records["test_accuracy"].notna().all()
    assert {path.name for path in result.folders} == set(result.records["run_id"])
    assert all((result.folder / path.name / "result.json").is_file() for path in result.folders)


def test_progress_is_told_in_lines_where_it_is_asked_for(swept):
    _, _, told = swept
    assert told[0] == "sweep grid: 2 cells, 0 done before"
    assert sum(line.endswith(" done") for line in told) == 2


def test_given_again_it_trains_nothing_and_prints_nothing(swept, here, capfd):
    before = {path: path.stat().st_mtime_ns for path in here.glob("runs/*/result.json")}
    again = api.sweep(*TINY, pool=["max", "average"])
    assert {path: path.stat().st_mtime_ns for path in here.glob("runs/*/result.json")} == before
    assert again.text == repr(again) == swept[0].text
    assert capfd.readouterr() == ("", "")


def test_a_plan_has_what_the_command_says(here, capsys):
    words = [*TINY, "pool=max,average,lp", "seeds=2"]
    ahead = api.plan(*words)
    assert ahead.text == printed(capsys, "plan", *words)
    content = json.loads(printed(capsys, "plan", "--json", *words))
    assert ahead.left == content["left"]
    assert list(ahead.frame["state"]) == [cell["state"] for cell in content["cells"]]
    new = ahead.frame[ahead.frame["state"] == "new"]
    assert new["seconds"].notna().all()
    shown = ahead._repr_html_()
    assert all(run_id.rpartition("-")[2] in shown for run_id in ahead.frame["run_id"])
    assert "all cells: data=shapes" in shown


def test_a_report_has_the_words_of_the_command_and_writes_where_it_is_told(recorded, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "120")  # what a pipe gets
    report = api.report()
    assert report.files == []
    assert [path.name for path in recorded.iterdir()] == ["runs"]
    out = printed(capsys, "report", "runs", "--output", "out")
    assert [line.rstrip() for line in out.splitlines()] == [
        *report.text.splitlines(),
        "Tables and plots: out/, all in one page: out/index.html",
    ]
    written = api.report("runs", output="mine")
    assert written.text == report.text
    ours, theirs = ({path.name: path.read_bytes() for path in (recorded / name).iterdir()} for name in ("mine", "out"))
    assert ours == theirs


def test_figures_are_matplotlibs_and_have_the_names_of_the_files(recorded):
    report = api.report("runs", output="out")
    assert set(report.figures) == {path.stem for path in (recorded / "out").glob("*.svg")}
    assert all(isinstance(figure, Figure) and figure.axes for figure in report.figures.values())
    assert report.figures["accuracy"] is report.figures["accuracy"]
    report.figures["accuracy"].savefig(recorded / "accuracy.pdf")


def test_tables_are_those_of_the_files(recorded):
    tables = api.report("runs", output="out").tables
    for name, table in tables.items():
        pd.testing.assert_frame_equal(
            pd.read_csv(recorded / "out" / f"{name}.csv"), pd.read_csv(pd.io.common.StringIO(table.to_csv(index=False)))
        )
    assert {"summary", "cells"} <= set(tables)


def test_a_report_is_html_with_every_text_escaped(recorded):
    write_cell(recorded / "runs", make_config("<b>lp", 0))
    shown = api.report()._repr_html_()
    assert "&lt;b&gt;lp" in shown
    assert "<b>" not in shown
    for words in ("test acc. %", "verdict", "max (baseline)", "Budget: "):
        assert words in shown, words


def test_latex_is_one_tabular_for_each_group(recorded):
    text = api.report().latex
    assert text.count(r"\begin{tabular}") == 1
    assert r"test acc. \%" in text


def test_a_report_compares_what_it_is_asked_to(tmp_path):
    found = api.report(write_heads(tmp_path / "runs", pools=("max", "lp")), compare="head", output=tmp_path / "out")
    assert set(found.tables["summary"]["head"]) == {"gem", "global_average", "flatten"}
    assert set(found.tables["cells"]["pool"]) == {"max", "lp"}
    html = found._repr_html_()
    assert ">head</th>" in html
    assert "A head is called higher" in html
    assert (tmp_path / "out/index.html") in found.files


def test_records_are_the_tidy_table_of_collect(recorded, capsys):
    printed(capsys, "collect", "runs", "--output", "all")
    own = api.records()
    assert len(own) == 6
    assert list(own["run_id"]) == list(pd.read_csv(recorded / "all/cells.csv")["run_id"])
    pd.testing.assert_frame_equal(api.records("all/records.jsonl"), own.assign(host=api.records("all")["host"]))


def test_a_record_that_cannot_be_read_is_told_and_hides_no_other(recorded):
    broken = next(iter((recorded / "runs").iterdir()))
    (broken / "result.json").write_text("{")
    with pytest.warns(UserWarning, match=f"left out: .*{broken.name}"):
        assert len(api.records()) == 5
    assert f"Not read: runs/{broken.name}" in api.report()._repr_html_()


@pytest.mark.parametrize(
    ("call", "told"),
    [
        (lambda: api.sweep(), "a sweep of what?"),
        (lambda: api.sweep(pool="maks"), "maks.*max"),
        (lambda: api.sweep(*TINY, pool="max", baseline="lp"), "lp"),
        (lambda: api.plan({"trainer.epoch": 3}), r"trainer\.epoch.*trainer\.epochs"),
        (lambda: api.plan(pool="max", config_dir="nowhere"), "nowhere"),
        (lambda: api.report("nowhere"), "no record"),
        (lambda: api.reproduce("2012_overlaping"), "2012_overlapping"),
        (lambda: api.race(pool="max"), "two arms"),
    ],
)
def test_what_is_wrong_is_an_error_before_any_work(call, told, tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match=told):
        call()
    assert list(tmp_path.iterdir()) == []
    assert capfd.readouterr() == ("", "")


def test_cells_that_fail_are_told_after_the_others_and_do_not_hide_them(here):
    words = [word for word in TINY if not word.startswith("trainer.epochs")]
    with pytest.raises(api.NotDone, match=r"(?s)failed: max.*again: poolbench run .*1 of 2 cells is not done$") as told:
        api.sweep(*words, {"optimizer.lr": [0.1, 1e38], "trainer.epochs": 2, "runs_dir": "failing"}, pool="max")
    assert len(told.value.result.records) == 1
    assert told.value.result.folder.name == "failing"


def test_without_a_single_result_there_is_nothing_but_the_error(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(api.NotDone, match=r"sweep\.max_hours was over") as told:
        api.sweep(*TINY, {"sweep.max_hours": 1e-9}, pool="max")
    assert told.value.result is None


def test_a_race_is_planned_in_the_words_of_the_command(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    words = [*TINY, "race.looks=[2,3]", "pool=max,average"]
    ahead = api.race({"race.looks": (2, 3)}, *TINY, pool=["max", "average"], plan=True)
    assert ahead.text == printed(capsys, "race", *words, "--plan")
    assert "looks after 2, 3 blocks" in ahead._repr_html_()
    assert list(tmp_path.iterdir()) == []


def test_a_race_that_is_not_over_says_so(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(api.NotDone, match=r"^the race is not over: the hours were up before the first look"):
        api.race(*TINY, {"race.looks": (2,)}, pool=["max", "average"], hours=1e-9)


def test_what_is_published_is_judged_without_training(repo_root, tmp_path, monkeypatch):
    name = "2012_overlapping"
    monkeypatch.chdir(tmp_path)
    said = api.reproduce(name, underpowered=True)
    assert list(tmp_path.iterdir()) == []
    published = pd.read_csv(repo_root / f"results/{name}/claims.csv")
    assert list(said.verdicts["verdict"]) == list(published["verdict"])
    assert list(said.verdicts["gain_mean"]) == pytest.approx(list(published["gain_mean"]), nan_ok=True)
    assert set(said.verdicts["experiment"]) == {name}
    assert "claims" in said.reports[name].figures
    shown = said._repr_html_()
    assert all(verdict in shown for verdict in set(published["verdict"]))


def test_an_experiment_is_planned_in_the_words_of_the_command(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    ahead = api.reproduce("2012_overlapping", plan=True)
    assert ahead.text == printed(capsys, "reproduce", "2012_overlapping", "--plan")


def test_a_script_of_any_kind_trains_with_it(repo_root, tmp_path):
    """One that does not ask whether it is the main program, as notebooks cannot either."""
    script = tmp_path / "script.py"
    script.write_text(f"from poolbench import api\nprint(len(api.sweep(*{TINY!r}, pool='max').records))\n")
    environment = {**os.environ, "PYTHONPATH": str(repo_root)}
    done = subprocess.run([sys.executable, script], cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("1\n", "")
