import json
import re
import shutil
import subprocess
import sys

import pandas as pd
import pytest

from poolbench.records.read import read_records
from poolbench.report import USUAL_FORMATS, write_report
from tests.report.synthetic import make_config, make_runs, write_cell

FIGURES = [f"{name}.{kind}" for name in ("accuracy", "curves", "cost") for kind in ("png", "svg")]


def _bytes(folder):
    """All files but the page, which tells where its records lie: tests/report/page has it."""
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.name != "index.html"}


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    """A folder with runs and their report."""
    folder = tmp_path_factory.mktemp("drawn")
    write_report(make_runs(folder / "runs", ["max", "lp"], 2), folder / "out")
    return folder


@pytest.fixture
def work(drawn, tmp_path):
    """A copy of it to change."""
    return shutil.copytree(drawn, tmp_path / "work")


def test_a_report_is_tables_figures_and_their_memory(work):
    report = write_report(work / "runs", work / "out")
    names = ["cells.csv", "summary.csv", "summary.md", *FIGURES, "report.json"]
    assert [path.name for path in report.files] == [*names, "index.html"]
    assert sorted(_bytes(work / "out")) == sorted(names)
    assert len(pd.read_csv(work / "out" / "cells.csv")) == 4
    assert pd.read_csv(work / "out" / "summary.csv")["pool"].tolist() == report.summary["pool"].tolist()
    assert "max (baseline)" in report.text
    assert "\x1b" not in report.text


def test_figures_are_drawn_again_only_when_what_they_show_changed(work):
    runs, out = work / "runs", work / "out"
    before = _bytes(out)
    assert write_report(runs, out).drawn == []
    assert _bytes(out) == before
    write_cell(runs, make_config("lp", 0), environment={"torch": "2.99"})  # Shown in no figure.
    assert write_report(runs, out).drawn == []
    write_cell(runs, make_config("lp", 0), images_per_second=10.0)
    assert write_report(runs, out).drawn == []
    for seed in range(2):
        write_cell(runs, make_config("lp", seed), forward_flops=10)
    assert {path.stem for path in write_report(runs, out).drawn} == {"cost"}


def test_a_figure_that_was_lost_or_cut_off_is_drawn_again(work):
    before = _bytes(work / "out")
    (work / "out" / "curves.svg").unlink()
    (work / "out" / "cost.png").write_bytes(b"")
    assert {path.stem for path in write_report(work / "runs", work / "out").drawn} == {"curves", "cost"}
    assert _bytes(work / "out") == before


def test_without_its_memory_a_report_draws_the_same_bytes(work):
    before = _bytes(work / "out")
    (work / "out" / "report.json").write_text("{")
    assert len(write_report(work / "runs", work / "out").drawn) == 6
    assert _bytes(work / "out") == before


def test_groups_have_their_own_figures_and_share_the_summary(work):
    (work / "out" / "curves.svg").write_text("edited by hand")
    make_runs(work / "runs", ["max", "lp"], 2, names__model="resnet", model__widths=[8])
    report = write_report(work / "runs", work / "out")
    assert {path.name for path in report.files if path.suffix == ".png"} == {
        f"{name}-{model}.png" for name in ("accuracy", "curves", "cost") for model in ("convnet", "resnet")
    }
    text = (work / "out" / "summary.md").read_text()
    tables, shown = text.split("\n## Figures\n")
    assert tables.count("\n## ") == 2
    pictures = re.findall(r"!\[[^\]]+\]\(([^)]+)\)", shown)
    assert pictures == [path.name for path in report.files if path.suffix == ".png"]
    assert all((work / "out" / picture).is_file() for picture in pictures)
    # The old figure would lie beside a table that it does not match; one that somebody changed is theirs.
    assert not (work / "out" / "accuracy.png").exists()
    assert (work / "out" / "curves.svg").read_text() == "edited by hand"


def test_groups_that_differ_in_an_option_alone_are_named_by_it(tmp_path):
    runs = make_runs(tmp_path / "runs", ["max", "lp"], 2)
    make_runs(runs, ["max", "lp"], 2, optimizer__lr=0.2)
    report = write_report(runs, tmp_path / "out")
    assert {path.name for path in report.files if path.name.startswith("cost")} == {
        f"cost-optimizer.lr={lr}.{kind}" for lr in ("0.1", "0.2") for kind in ("png", "svg")
    }


def test_records_paths_and_archives_give_the_same_report(work):
    before = _bytes(work / "out")
    records, _ = read_records(work / "runs")
    report = write_report(records, work / "out", archive=True, formats=(*USUAL_FORMATS, "latex"))
    assert {path.name for path in report.files} - before.keys() == {"records.jsonl", "summary.tex", "index.html"}
    again = write_report([work / "out" / "records.jsonl"], work / "out")
    assert report.drawn == again.drawn == []
    assert before.items() <= _bytes(work / "out").items()


def test_problems_are_said(work):
    runs = work / "runs"
    (runs / "broken").mkdir()
    (runs / "broken" / "config.yaml").write_text("seed: [")
    report = write_report(runs, work / "out")
    assert "broken: config.yaml cannot be parsed" in report.text
    assert "1 record could not be read" in (work / "out" / "summary.md").read_text()


def test_cells_of_which_none_finished_make_a_table_without_figures(tmp_path):
    write_cell(tmp_path / "runs", make_config("max"), state="failed")
    report = write_report(tmp_path / "runs", tmp_path / "out")
    assert report.drawn == []
    assert "1 cell failed" in report.text


def test_nothing_to_report_is_a_clear_error(tmp_path):
    with pytest.raises(ValueError, match=r"no record to report in [^\n]*\n.*missing: no such file or folder"):
        write_report(tmp_path / "missing", tmp_path / "out")


def test_an_output_that_cannot_be_written_is_told_before_any_work(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(OSError, match=r"cannot write the report to .*file"):
        write_report(tmp_path / "missing", tmp_path / "file")


def test_an_unchanged_report_needs_neither_torch_nor_matplotlib(work):
    code = (
        "import json, sys\nfrom poolbench.report import USUAL_FORMATS, write_report\n"
        f"write_report({str(work / 'runs')!r}, {str(work / 'out')!r})\n"
        "print(json.dumps([name for name in ('torch', 'matplotlib') if name in sys.modules]))"
    )
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert json.loads(loaded) == []


def test_a_pool_alone_among_groups_gets_no_figure(tmp_path):
    runs = make_runs(tmp_path / "runs", ["max", "lp"], 2)
    make_runs(runs, ["max"], 2, optimizer__lr=0.2)
    report = write_report(runs, tmp_path / "out")
    assert len(report.groups) == 2
    assert len([path for path in report.files if path.suffix == ".png"]) == 3
    only = write_report([record for record in read_records(runs)[0]][:1], tmp_path / "one")
    assert len([path for path in only.files if path.suffix == ".png"]) == 3


def test_counts_that_no_cell_has_are_left_out(tmp_path):
    unknown = dict.fromkeys(
        ("peak_memory_bytes", "images_seen", "train_samples", "test_samples", "train_flops", "parameters")
    )
    for pool in ("max", "lp"):
        for seed in range(3):
            write_cell(tmp_path / "runs", make_config(pool, seed), **unknown)
    report = write_report(tmp_path / "runs", tmp_path / "report")
    assert all(path.exists() for path in report.files)
    summary = (tmp_path / "report/summary.md").read_text()
    assert "an unknown number of training images" in summary
    assert "nan" not in summary.lower()


def test_figures_come_as_pdf_when_asked_and_stay_until_they_change(work):
    runs, out = work / "runs", work / "out"
    before = _bytes(out)
    pdfs = {"accuracy.pdf", "curves.pdf", "cost.pdf"}
    report = write_report(runs, out, formats=(*USUAL_FORMATS, "pdf"))
    assert _bytes(out).keys() - before.keys() == pdfs <= {path.name for path in report.files}
    assert {name: content for name, content in _bytes(out).items() if name in before and name != "report.json"} == {
        name: content for name, content in before.items() if name != "report.json"
    }
    assert write_report(runs, out, formats=(*USUAL_FORMATS, "pdf")).drawn == []
    assert write_report(runs, out).drawn == []
    assert pdfs <= _bytes(out).keys()
    for seed in range(2):
        write_cell(runs, make_config("lp", seed), forward_flops=10)
    write_report(runs, out)
    assert _bytes(out).keys() & pdfs == {"accuracy.pdf", "curves.pdf"}  # cost.pdf would show what is no more
