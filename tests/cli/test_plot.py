"""``poolbench plot``: one figure in one file."""

import pytest

from poolbench.cli.main import main
from tests.report.synthetic import make_runs


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    return make_runs(tmp_path_factory.mktemp("records") / "runs", ["max", "lp(p=3,q=4)", "average"], 2)


@pytest.fixture(autouse=True)
def _here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


STARTS = {"png": b"\x89PNG", "svg": b"<?xml", "pdf": b"%PDF", "PDF": b"%PDF"}


@pytest.mark.parametrize("ending", STARTS)
def test_the_ending_decides_what_is_written_and_twice_is_the_same(ending, runs, tmp_path, capsys):
    files = [tmp_path / f"{name}/my.own.{ending}" for name in ("one", "two")]
    for file in files:
        assert main(["plot", "accuracy", str(runs), "--output", str(file)]) == 0
        assert capsys.readouterr().out.strip() == str(file)
        assert [path.name for path in file.parent.iterdir()] == [file.name]
    assert files[0].read_bytes().startswith(STARTS[ending])
    assert files[0].read_bytes() == files[1].read_bytes()


def test_without_an_output_it_lies_here_under_its_kind(runs, tmp_path):
    assert main(["plot", "cost", str(runs)]) == 0
    assert [path.name for path in tmp_path.iterdir()] == ["cost.png"]


def test_labels_with_commas_in_brackets_are_one_pool(runs, tmp_path):
    assert main(["plot", "curves", str(runs), "--pools", "lp(p=3,q=4), max", "--output", "c.svg"]) == 0
    assert (tmp_path / "c.svg").stat().st_size > 1000


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        ("acuracy RUNS", "Did you mean 'accuracy'"),
        (
            "accuracy RUNS --output a.jpg",
            "option '--output': must be a file that ends in .png, .svg or .pdf, got 'a.jpg'",
        ),
        ("accuracy RUNS --output a", "got 'a'"),
        ("accuracy RUNS --width 1", "option '--width': must be a number of inches from 4 to 40, got '1'"),
        ("accuracy RUNS --height nan", "option '--height'"),
        ("accuracy RUNS --height tall", "got 'tall'"),
        ("accuracy RUNS --pools lpp", "option '--pools': there is no pool 'lpp' here"),
        ("accuracy RUNS --pools=", "option '--pools': there is no pool ''"),
        ("accuracy RUNS --experiment 2012_overlapping", "only for the kind 'claims', got the kind 'accuracy'"),
        ("accuracy RUNS --speeds none.json", "none.json"),
        ("claims RUNS", "option '--experiment'"),
        ("claims RUNS --experiment 2012_overlaping", "2012_overlapping"),
        ("claims RUNS --experiment all", "must name one experiment, got 'all'"),
        ("claims RUNS --experiment 2012_overlapping --width 9", "its rows decide its size"),
        ("claims RUNS --experiment 2012_overlapping --pools max", "its claims say what is compared"),
        ("sites RUNS", "nothing to draw as 'sites' in these records"),
        ("accuracy nowhere", "no record"),
    ],
)
def test_what_cannot_be_drawn_is_said_and_nothing_written(typed, said, runs, tmp_path, capsys):
    assert main(["plot", *typed.replace("RUNS", str(runs)).split(" ")]) == 2
    streams = capsys.readouterr()
    assert said in streams.err
    assert streams.out == ""
    assert list(tmp_path.iterdir()) == []


def test_what_could_not_be_read_is_told_and_the_rest_drawn(tmp_path, capsys):
    runs = make_runs(tmp_path / "runs", ["max", "lp"], 2)
    next(runs.glob("lp*")).joinpath("result.json").write_text("{")
    assert main(["plot", "accuracy", str(runs), "--output", "a.png"]) == 0
    assert "Not read: " in capsys.readouterr().err
    assert (tmp_path / "a.png").exists()
