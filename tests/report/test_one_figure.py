import pytest
from matplotlib.text import Text

from poolbench.cli import plot
from poolbench.records.read import read_records
from poolbench.report import write_report
from poolbench.report.one_figure import KINDS, Choice, one_figure
from poolbench.report.plots import write
from tests.report.synthetic import make_runs

POOLS = ["max", "average", "lp", "overlapping"]


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Two settings, convnet and resnet18 (and another one whose name goes on from it)."""
    folder = tmp_path_factory.mktemp("runs")
    make_runs(folder / "one", POOLS, 3)
    make_runs(folder / "two", ["max", "lp(p=3,q=4)"], 2, names__model="resnet18", model__widths=[8])
    make_runs(folder / "two", ["max", "lp"], 2, names__model="resnet18(wide=true)", model__widths=[9])
    return folder


def words(figure):
    return "\n".join(text.get_text() for text in figure.findobj(Text) if text.get_visible())


def labels(figure):
    return [label.get_text() for label in figure.axes[0].get_yticklabels()]


def test_kinds_of_the_command_are_these_and_claims():
    assert {*KINDS, "claims"} == set(plot.KINDS)


@pytest.mark.parametrize("kind", ["accuracy", "curves", "cost"])
def test_a_figure_is_the_one_of_the_report_to_the_byte(kind, runs, tmp_path):
    write_report(runs / "one", tmp_path)
    write(one_figure(kind, [runs / "one"])[0], tmp_path / "own.png")
    assert (tmp_path / "own.png").read_bytes() == (tmp_path / f"{kind}.png").read_bytes()


def test_only_some_pools_are_shown_with_the_baseline_and_the_verdicts_of_the_table(runs):
    whole, _ = one_figure("accuracy", [runs / "one"])
    figure, _ = one_figure("accuracy", [runs / "one"], Choice(pools=("lp",)))
    assert set(labels(whole)) == set(POOLS)
    assert set(labels(figure)) == {"max", "lp"}
    lines = [text for text in words(figure).split("\n") if "±" in text]
    assert len(lines) >= 3
    assert set(lines) <= set(words(whole).split("\n"))


def test_another_baseline_is_compared_with(runs):
    figure, _ = one_figure("curves", [runs / "one"], Choice(baseline="lp", pools=("max",)))
    assert "minus that of lp" in figure.axes[-1].get_ylabel()
    assert {text.get_text() for text in figure.axes[-1].texts} == {"max", "lp"}


@pytest.mark.parametrize(
    ("group", "setting"),
    [
        ("convnet", "convnet"),
        ("resnet18", "resnet18,"),
        ("resnet18, 8 epochs", "resnet18,"),
        ("wide", "resnet18(wide=true)"),
        ("resnet18(wide=true)", "resnet18(wide=true)"),
    ],
)
def test_a_setting_is_named_by_parts_of_it(group, setting, runs):
    figure, _ = one_figure("accuracy", [runs / "one", runs / "two"], Choice(group=group))
    assert f"\n{setting}" in figure.get_suptitle()


def test_a_setting_is_named_by_its_hash(runs):
    with pytest.raises(ValueError, match="have 3 settings") as caught:
        one_figure("accuracy", [runs / "one", runs / "two"])
    for line in str(caught.value).split("\n")[1:]:
        group, setting = line.split(maxsplit=1)
        figure, _ = one_figure("accuracy", [runs / "one", runs / "two"], Choice(group=group))
        assert setting.partition(",")[0] in figure.get_suptitle()


@pytest.mark.parametrize(
    ("kind", "choice", "said"),
    [
        ("accuracy", Choice(), "3 settings"),
        ("accuracy", Choice(group="vgg"), "got 'vgg', which fits none of the settings"),
        ("accuracy", Choice(group="resnet"), "fits 2 of the settings"),
        ("accuracy", Choice(group=" , "), "fits none"),
        ("accuracy", Choice(group="convnet", pools=("lpp",)), "Did you mean 'lp'"),
        ("accuracy", Choice(group="convnet", baseline="soft"), "--baseline"),
        ("invariance", Choice(group="convnet"), "nothing to draw as 'invariance'"),
        ("information", Choice(group="convnet"), "probe=all"),
        ("gap", Choice(), "nothing to draw as 'gap'"),
        ("gap", Choice(group="convnet"), "'--group'"),
        ("gap", Choice(baseline="max"), "'--baseline'"),
    ],
)
def test_what_cannot_be_drawn_is_said(kind, choice, said, runs):
    with pytest.raises(ValueError, match=r"option|nothing|--baseline") as caught:
        one_figure(kind, [runs / "one", runs / "two"], choice)
    assert said in str(caught.value)


def test_no_record_and_cells_that_are_not_finished_are_said(tmp_path):
    with pytest.raises(ValueError, match="no record"):
        one_figure("accuracy", [tmp_path])
    records, _ = read_records(make_runs(tmp_path, ["max", "lp"], 1, trainer__epochs=0))
    with pytest.raises(ValueError, match=r"nothing to draw as 'curves' .* takes a finished cell with the numbers"):
        one_figure("curves", records)


@pytest.mark.parametrize("kind", ["accuracy", "curves", "cost"])
def test_a_size_and_a_title_are_taken(kind, runs):
    figure, _ = one_figure(kind, [runs / "one"], title="My own", size=(7.5, None))
    assert figure.get_figwidth() == 7.5
    assert figure.get_figheight() == one_figure(kind, [runs / "one"])[0].get_figheight()
    assert figure.get_suptitle() == "My own"
    assert tuple(one_figure(kind, [runs / "one"], size=(6.0, 4.0))[0].get_size_inches()) == (6.0, 4.0)
