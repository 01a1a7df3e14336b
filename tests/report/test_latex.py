"""The summary as LaTeX: what it says, and that LaTeX takes it."""

import shutil
import subprocess

import pytest

from poolbench.records.collect import collect
from poolbench.records.read import read_records
from poolbench.report.latex import escaped, latex
from poolbench.report.summary import summarise
from poolbench.report.tables import COLUMNS, plus_minus
from tests.report.synthetic import make_runs

HOSTILE = ["max", "50%_of&all#{x}$", r"back\slash^~", "[1,2]<3>|4*", "*starred", "Größe→日本", "a-b'c\"d`"]
COMPILERS = [name for name in ("pdflatex", "tectonic") if shutil.which(name)]
DOCUMENT = r"\documentclass{article}\usepackage[a0paper]{geometry}\usepackage{booktabs}\begin{document}%s\end{document}"


@pytest.fixture(scope="module")
def rows(tmp_path_factory):
    runs = make_runs(tmp_path_factory.mktemp("runs"), ["max", "lp", "average"], seeds=3)
    return summarise(collect(read_records(runs)[0]))


@pytest.mark.skipif(not COMPILERS, reason="LaTeX is not here: install pdflatex or tectonic to see that tables compile")
@pytest.mark.parametrize("columns", [(), tuple(COLUMNS), ("verdict", "pool")])
def test_it_compiles_whatever_pools_are_called(rows, columns, tmp_path):
    hostile = rows.loc[rows.index.repeat(3)].iloc[: len(HOSTILE)].assign(pool=HOSTILE, setting="50%\nof_it")
    hostile.loc[hostile["pool"] == "*starred", "forward_flops"] = None
    (tmp_path / "summary.tex").write_text(latex([(hostile, []), (rows, [])], columns=columns), encoding="utf-8")
    (tmp_path / "all.tex").write_text(DOCUMENT % r"\input{summary.tex}")
    options = ["-halt-on-error", "-interaction=nonstopmode"] if COMPILERS[0] == "pdflatex" else []
    done = subprocess.run([COMPILERS[0], *options, "all.tex"], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-3000:]
    assert (tmp_path / "all.pdf").stat().st_size > 1000
    assert "Missing character" not in done.stdout
    assert "Overfull" not in done.stdout


def test_rows_are_those_of_the_summary_with_true_minus_signs_and_no_break_in_a_number(rows):
    lines = latex([(rows, ["a note"])]).splitlines()
    assert {r"\toprule", r"\midrule", r"\bottomrule"} <= set(lines)
    assert not any(r"\hline" in line or "a note" in line for line in lines)
    body = [line for line in lines if line.endswith(r"\\")]
    assert len(body) == 1 + len(rows)
    assert len({line.count(" & ") for line in body}) == 1
    for row in rows.to_dict("records"):
        (line,) = [line for line in body if line.startswith(row["pool"])]
        assert plus_minus(row, "test_accuracy").replace(" ± ", r"~$\pm$~") in line
        if not row["baseline"]:
            sign = plus_minus(row, "difference", sign=True).replace(" ± ", r"~$\pm$~")
            assert (f"$-${sign[1:]}" if sign.startswith("-") else sign) in line


def test_columns_are_those_asked_for_in_their_order(rows):
    text = latex([(rows, [])], columns=("accuracy", "pool"))
    assert r"\begin{tabular}{rl}" in text
    assert r"test acc. \% & pool \\" in text


def test_a_name_is_text_and_no_command():
    assert escaped(r"\input{x}%") == r"\textbackslash{}input\{x\}\%"
    assert escaped("日") == "U+65E5"
