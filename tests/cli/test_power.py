"""How many seeds a comparison needs: from a spread that is typed, or from records."""

import re
from pathlib import Path

import pytest

from poolbench.cli.main import main
from poolbench.statistics.power import blocks_for, power
from tests.report.synthetic import make_config, make_runs, write_cell


def said(capsys, *words):
    assert main(["power", *words]) == 0
    return capsys.readouterr().out


def test_a_table_of_chances_and_the_seeds_for_80_percent(capsys):
    text = said(capsys, "--sd", "0.3", "--difference", "0.2", "--arms", "5")
    rows = {
        int(row[0]): row for line in text.splitlines() if (row := line.split()) and row[0].isdigit() and row[-1] == "%"
    }
    assert len(rows) > 5
    for seeds, row in rows.items():
        assert int(row[1]) == round(100 * power("better", 0.2, 0.2, 0.3, seeds, 5))
        assert int(row[3]) == round(100 * power("better", 0.0, 0.2, 0.3, seeds, 5))
    needed = blocks_for("better", 0.2, 0.2, 0.3, 5)
    assert f"{needed} seeds for 80 % when the true gain is the smallest difference" in text
    alone = said(capsys, "--sd", "0.3", "--difference", "0.2", "--kind", "equal")
    assert "the smallest difference" not in alone
    assert "when the true gain is none" in alone
    assert "more than 200 seeds" in said(capsys, "--sd", "30", "--difference", "0.2")


def test_the_spread_of_records_is_that_after_arm_and_seed(tmp_path, capsys):
    for seed in range(6):
        for pool, gain in (("max", 0.0), ("lp", 0.02), ("average", 0.01)):
            noise = 0.002 * ((seed * 7 + len(pool) * 5) % 3 - 1)
            write_cell(tmp_path, make_config(pool, seed), test_accuracy=0.7 + 0.01 * seed + gain + noise)
    text = said(capsys, str(tmp_path), "--difference", "0.5")
    (sd,) = re.findall(r"varies by ([\d.]+) points", text)
    assert 0.05 < float(sd) < 0.35  # neither the seed's nor the arms' part
    assert "3 arms" in text
    assert "5 arms" in said(capsys, str(tmp_path), "--difference", "0.5", "--arms", "5")


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["--difference", "0.5"], "give either --sd, as 0.3, or records"),
        (["--difference", "0.5", "--sd", "0"], "--sd must be a number of points above 0, got 0"),
        (["--difference", "nan", "--sd", "1"], "--difference must be a number of points above 0"),
        (["--difference", "1", "--sd", "1", "--arms", "1"], "--arms must be a whole number of at least 2, got 1"),
        (["--difference", "1", "--sd", "1", "--claims", "0"], "--claims must be a whole number of at least 1, got 0"),
    ],
)
def test_what_cannot_be_is_named(words, reason, capsys):
    assert main(["power", *words]) == 2
    assert reason in capsys.readouterr().err


def test_records_that_tell_no_spread_are_refused(tmp_path, capsys):
    make_runs(tmp_path, ["max"], 3)
    assert main(["power", str(tmp_path), "--difference", "0.5"]) == 2
    assert "no two arms of these records have two seeds in common" in capsys.readouterr().err


def test_the_page_says_what_the_command_does():
    page = (Path(__file__).parents[2] / "docs/power.md").read_text()
    told = re.search(r"At ([\d.]+), with five arms, (.+?):", page, re.S)
    pairs = re.findall(r"([\d.]+) points(?: of\s+interest)?(?: take)?\s+(\d+)", told[2])
    assert len(pairs) == 3
    for difference, seeds in pairs:
        assert blocks_for("better", float(difference), float(difference), float(told[1]), 5) == int(seeds)


def test_the_page_names_the_worst_row_of_its_table():
    page = (Path(__file__).parents[2] / "docs/power.md").read_text()
    rows = [line.split("|")[4:7] for line in page.splitlines() if re.match(r"\| \d", line) and line.count("|") == 8]
    worst = max(float(cell) for row in rows for cell in row)
    assert len(rows) == 66
    assert worst <= 6
    assert f"the worst number, {worst:g}, is of a control that varies twice as much" in page
