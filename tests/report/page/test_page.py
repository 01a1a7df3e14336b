"""The page of a report: what it says follows from the tables, and nothing in it is anybody else's code."""

import json
import re

import pytest

from poolbench.report import Page, make_report, write_report
from poolbench.report.page import FILE, write_page
from poolbench.report.page.content import page_content
from poolbench.report.page.sentences import headlines
from tests.report.synthetic import make_config, make_runs, write_cell

CLAIM = {"experiment": "2012", "id": "a", "says": "a holds", "headline": True, "cells": "convnet", "paper": "-"}
CLAIM |= {"gain": "+1", "verdict": "supports", "why": "so", "first": "cannot tell"}


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    return make_runs(tmp_path_factory.mktemp("runs"), ["max", "average", "lp", "strided_conv"], 4)


@pytest.fixture(scope="module")
def report(runs):
    return make_report(runs)


def data_of(path):
    (text,) = re.findall(r'<script type="application/json" id="data">(.*?)</script>', path.read_text(), flags=re.S)
    return json.loads(text)


def test_differences_to_the_baseline_are_those_of_the_table(report):
    content = page_content(report)
    pairs = content["pairs"][0]
    control = pairs["arms"].index("max")
    letters = {"cannot tell": "-", "higher": "h", "lower": "l"}
    rows = report.summary.set_index("pool")
    for place, arm in enumerate(pairs["arms"]):
        if arm == "max":
            assert pairs["mean"][place][place] is None
            continue
        row = rows.loc[arm]
        assert pairs["mean"][place][control] == pytest.approx(1e5 * row["difference"], abs=1)
        half = (row["difference_high"] - row["difference_low"]) / 2
        assert pairs["half"][place][control] == pytest.approx(1e5 * half, abs=1)
        assert pairs["verdict"][place][control] == letters[row["verdict"]]
        assert pairs["mean"][control][place] == -pairs["mean"][place][control]


def test_rows_have_their_cells_and_what_repeats_them(report, runs):
    content = page_content(report)
    assert sorted(row["arm"] for row in content["rows"]) == ["average", "lp", "max", "strided_conv"]
    for row in content["rows"]:
        cells = [content["cells"][place] for place in row["cells"]]
        assert [cell["seed"] for cell in cells] == [0, 1, 2, 3]
        for cell in cells:
            assert cell["again"] == f"poolbench rerun {(runs / cell['run']).as_posix()}"
            assert content["environments"][cell["e"]]["cpu"] == "AMD EPYC"
        whole = {**content["settings"][0]["config"], **row["config"]}
        assert whole["model.widths"] == [32, 64, 128]
        assert "seed" not in whole
    assert {name for row in content["rows"] for name in row["config"]} == {"pool._target_"}


def test_a_cell_of_an_archive_is_named_with_its_place(runs, tmp_path):
    write_report(runs, tmp_path / "out", archive=True, formats=())
    content = page_content(make_report(tmp_path / "out" / "records.jsonl"))
    cell = content["cells"][0]
    assert cell["again"] == f"poolbench rerun {(tmp_path / 'out').as_posix()}:{cell['run']}"


def test_headlines_are_made_of_verdicts(report):
    first, cost, second, third = headlines(page_content(report, [CLAIM, {**CLAIM, "verdict": "cannot tell"}]))
    best = report.summary.iloc[0]
    assert f"{best['pool']} has the highest accuracy of 4: {100 * best['test_accuracy']:.1f} %" in first
    rows = report.summary.set_index("pool")
    flops = rows["forward_flops"]
    more = rows["parameters"][best["pool"]] - rows["parameters"]["max"]
    times = f"{flops[best['pool']] / flops['max']:.2f} times the FLOPs"
    assert cost == f"Compared with max it takes {times} and {more:,.0f} more weights."
    for arm, verdict in rows["verdict"].dropna().items():
        part = {"higher": "surely more accurate: ", "lower": "surely less: ", "cannot tell": "cannot tell: "}[verdict]
        (found,) = [text for text in second.rstrip(".").split("; ") if part in text]
        assert arm in found.partition(part)[2].split(", ")
    assert third == "Of 2 headline claims of the papers: 1 supported, 1 not decided."


def test_one_seed_says_nothing_of_the_best(tmp_path):
    content = page_content(make_report(make_runs(tmp_path, ["max", "lp"], 1)))
    said = headlines(content)[0]
    assert said.endswith("Too few seeds to say which others may be as good.")
    assert content["pairs"][0]["half"] == [[None, None], [None, None]]


def test_the_setting_with_most_to_compare_comes_first(tmp_path):
    make_runs(tmp_path, ["max", "lp"], 3)
    make_runs(tmp_path, ["max", "lp", "average"], 3, trainer__epochs=2)
    make_runs(tmp_path, ["max", "lp", "average", "stochastic"], 1, trainer__epochs=9)
    content = page_content(make_report(tmp_path))
    assert content["settings"][content["start"]]["epochs"] == 2


def test_names_of_others_stay_text(tmp_path):
    evil = '</script><script>alert(1)</script><img src=x onerror="alert(2)">'
    make_runs(tmp_path / "runs", ["max"], 2)
    for seed in range(2):
        config = make_config("lp", seed)
        config["names"]["pool"] = evil
        config["run_id"] = f"evil-s{seed}"
        write_cell(tmp_path / "runs", config)
    path = write_page(make_report(tmp_path / "runs"), tmp_path, Page(evil, [{**CLAIM, "says": evil}]))
    text = path.read_text()
    assert "<script>alert" not in text
    assert "<img src=x" not in text
    assert any(evil in row["arm"] for row in data_of(path)["rows"])


def test_a_page_that_says_the_same_is_left_alone(report, tmp_path):
    path = write_page(report, tmp_path, Page("One"))
    kept = path.read_text().replace("window.vegaEmbed=", "window.another=1;window.vegaEmbed=")  # of another version
    path.write_text(kept)
    write_page(report, tmp_path, Page("One"))
    assert path.read_text() == kept
    write_page(report, tmp_path, Page("Two"))
    assert "<title>Two</title>" in path.read_text()


def test_it_asks_for_nothing_and_holds_all_rows_without_scripts(report, tmp_path):
    text = write_page(report, tmp_path, Page()).read_text()
    static = re.sub(r"<script\b.*?</script>", "", text, flags=re.S)
    assert re.findall(r'(?:src|href)="(?!data:|#)', static) == []
    assert "@import" not in static
    assert "url(" not in static
    assert "default-src 'none'" in static
    for arm in ("max (baseline)", "average", "lp", "strided_conv"):
        assert f'<th scope="row">{arm}</th>' in static
    assert static.count('src="data:image/png') == 4


def test_a_thousand_cells_take_less_than_four_megabytes(tmp_path):
    pools = [f"pool{number}" for number in range(25)]
    for epochs in (2, 3, 4, 5):
        make_runs(tmp_path / "runs", ["max", *pools[:-1]], 10, trainer__epochs=epochs)
    path = write_report(tmp_path / "runs", tmp_path / "out", drawings=()).output / FILE
    assert len(data_of(path)["cells"]) == 1000
    assert path.stat().st_size < 4_000_000


def test_a_report_without_a_page_writes_none(runs, tmp_path):
    report = write_report(runs, tmp_path, formats=("md",))
    assert not (tmp_path / FILE).exists()
    assert FILE not in [path.name for path in report.files]
