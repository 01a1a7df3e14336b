import io
import re

import pandas as pd
import pytest
from rich.console import Console

from poolbench.records.collect import collect
from poolbench.records.read import read_records
from poolbench.report.latex import latex
from poolbench.report.summary import summarise
from poolbench.report.tables import markdown, p_value, parse_columns, plus_minus, print_summary
from tests.report.synthetic import POOLS, make_config, make_runs, write_cell


@pytest.fixture(scope="module")
def rows(tmp_path_factory):
    runs = make_runs(tmp_path_factory.mktemp("runs"), list(POOLS), seeds=3)
    write_cell(runs, make_config("lp(p=3.0)", 0))
    return summarise(collect(read_records(runs)[0]))


def _printed(rows, width, **options):
    console = Console(file=io.StringIO(), width=width, **options)
    print_summary([(rows, ["a note"])], "the rule", console)
    return console.file.getvalue()


@pytest.mark.parametrize("width", [80, 100, 120, 160])
def test_every_pool_and_number_is_readable_at_usual_widths(rows, width):
    text = _printed(rows, width)
    assert max(map(len, text.splitlines())) <= width
    for row in rows.to_dict("records"):
        assert row["pool"] in text
        assert plus_minus(row, "test_accuracy") in text
        assert plus_minus(row, "difference", sign=True) in text
        assert f"{row['parameters']:,.0f}" in text
    assert "…" not in text
    assert "a note" in text
    assert "the rule" in text


@pytest.mark.parametrize("width", [80, 100, 120, 136, 160, 210])
def test_times_are_readable_at_usual_widths_too(rows, width):
    names = [f"{kind}_time_ratio{end}" for kind in ("train", "forward") for end in ("", "_low", "_high")]
    timed = rows.assign(**{name: [12.34 + number] * len(rows) for number, name in enumerate(names)})
    text = _printed(timed, width)
    assert max(map(len, text.splitlines())) <= width
    assert "12.3 [13.3, 14.3]" in text
    assert "15.3 [16.3, 17.3]" in text
    assert "…" not in text


def test_piped_output_is_plain_and_a_terminal_gets_colour(rows):
    assert "\x1b" not in _printed(rows, 120)
    assert "\x1b" in _printed(rows, 120, force_terminal=True, color_system="standard")


def test_markdown_has_as_many_fields_in_each_line(rows):
    lines = [line for line in markdown([(rows, ["a note"])], "the rule").splitlines() if line.startswith("|")]
    assert len(lines) == 2 + len(rows)
    assert len({line.count("|") for line in lines}) == 1
    assert "max (baseline)" in "\n".join(lines)


def test_markdown_says_how_many_records_could_not_be_read(rows):
    assert "2 records could not be read" in markdown([(rows, [])], "", problems=2)


def test_latex_has_as_many_columns_in_each_line_and_escapes_names(rows):
    lines = latex([(rows, [])]).splitlines()
    assert len({line.count("&") - line.count(r"\&") for line in lines if line.endswith(r"\\")}) == 1
    assert any(r"strided\_conv" in line for line in lines)


@pytest.mark.parametrize(
    ("low", "high", "shown"),
    [(0.79, 0.81, "80.00 ± 1.00"), (0.7999, 0.80011, "80.00 ± 0.02"), (0.8, 0.8, "80.00 ± 0.00")],
)
def test_margins_are_rounded_up(low, high, shown):
    assert plus_minus({"a": 0.8, "a_low": low, "a_high": high}, "a") == shown


def test_what_is_not_there_is_a_dash():
    assert plus_minus({"a": 0.8, "a_low": float("nan"), "a_high": float("nan")}, "a") == "80.00 ± –"
    assert plus_minus({"a": float("nan"), "a_low": float("nan"), "a_high": float("nan")}, "a") == "–"
    assert p_value(pd.NA) == p_value(float("nan")) == "–"


@pytest.mark.parametrize(("p", "shown"), [(0.04991, "0.0500"), (0.0004, "<0.001"), (0.2, "0.200"), (1.0, "1.000")])
def test_rounding_never_makes_a_p_value_smaller(p, shown):
    assert p_value(p) == shown


def test_a_lower_loss_is_better_and_what_may_be_the_best_is_said(rows):
    told = rows.assign(
        loss_verdict=["lower", "higher", "cannot tell", *[None] * (len(rows) - 3)],
        loss_difference=-0.0125,
        loss_difference_low=-0.01501,
        loss_difference_high=-0.00999,
        among_best=[True, False, *[pd.NA] * (len(rows) - 2)],
    )
    lines = [line for line in markdown([(told, [])], "the rule").splitlines() if line.startswith("|")]
    head, _, *table = ([cell.strip() for cell in line.strip("|").split("|")] for line in lines)
    by_loss, best, margin = ([row[head.index(name)] for row in table] for name in ("by loss", "best?", "diff. loss"))
    assert by_loss[:4] == ["better", "worse", "cannot tell", "–"]
    assert best[:3] == ["maybe", "no", "–"]
    assert margin[0].replace("\u00a0", " ") == "-0.0125 ± 0.0026"  # rounded up


@pytest.mark.parametrize("width", [80, 100, 112, 120, 160, 180])
def test_what_is_not_counted_is_said_and_every_line_still_fits(rows, width):
    own = rows.assign(forward_flops=rows["forward_flops"].where(rows["pool"] != rows["pool"].iloc[-1]))
    text = _printed(own, width)
    assert text.count("not counted") == 1
    assert max(map(len, text.splitlines())) <= width
    assert "…" not in text
    assert "not counted" in latex([(own, [])])
    assert "| not counted |" in markdown([(own, [])], "the rule")
    assert "not counted" not in markdown([(rows, [])], "the rule")


def test_columns_are_chosen_and_ordered_alike_everywhere(rows):
    console = Console(file=io.StringIO(), width=80)
    print_summary([(rows, [])], "the rule", console, columns=("seeds", "pool", "accuracy"))
    head = next(line for line in console.file.getvalue().splitlines() if "seeds" in line)
    assert head.split() == ["seeds", "pool", "test", "acc.", "%"]
    text = markdown([(rows, [])], "the rule", columns=("seeds", "pool", "accuracy"))
    assert "| seeds | pool | test acc. % |\n|---:|---|---:|" in text
    assert parse_columns("seeds, pool") == ("seeds", "pool")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("pool,acuracy", "no column 'acuracy'. Did you mean 'accuracy'"),
        ("pool,pool", "twice"),
        ("", "There are: pool,"),
    ],
)
def test_a_column_that_is_not_there_is_said_with_those_that_are(text, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        parse_columns(text)


def test_a_number_and_its_margin_do_not_part_in_markdown_and_a_terminal_has_plain_spaces(rows):
    text = markdown([(rows, [])], "the rule")
    for row in rows.to_dict("records"):
        assert plus_minus(row, "test_accuracy").replace(" ", "\u00a0") in text
    assert " ± " not in text
    assert "\u00a0" not in _printed(rows, 120)


def test_figures_come_last_and_a_title_cannot_end_its_text(rows):
    text = markdown([(rows, [])], "the rule", figures={"a b.png": "One](x) [and\ntwo"})
    assert text.endswith("the rule\n\n## Figures\n\n![One)(x) (and: two](a%20b.png)\n")
    assert "## Figures" not in markdown([(rows, [])], "the rule")
