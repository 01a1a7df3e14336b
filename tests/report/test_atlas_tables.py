"""An atlas as tables and figures, and the command that makes them, on made records."""

import re

import pandas as pd
import pytest

from poolbench.cli.main import main
from poolbench.records.read import read_records
from poolbench.report.atlas import LOG_ERROR, make_atlas
from poolbench.report.atlas_plots import expected_figure, gains_figure
from poolbench.report.atlas_tables import case_rows, markdown, pool_rows, read_features
from tests.report.test_advice import NETS, make
from tests.report.test_atlas import GAINS


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    return make(tmp_path_factory.mktemp("made"), GAINS)


@pytest.fixture(scope="module")
def atlas(runs):
    return make_atlas(read_records(runs)[0], repeats=5, properties=["forward_flops"])


def rows_of(text):
    """The cells of all tables."""
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if line[:1] == "|"]


def test_every_pool_has_a_row_in_the_order_of_its_gain(atlas):
    table = pool_rows(atlas)
    assert list(table["pool"]) == sorted(GAINS, key=GAINS.get, reverse=True)
    assert table.set_index("pool").loc["max", "gain"] == 0
    for row in table.to_dict("records"):
        if row["pool"] != "max":
            assert row["net_low"] < row["gain_low"] < row["gain"] < row["gain_high"] < row["net_high"]


def test_every_gain_has_a_row_with_what_was_predicted(atlas):
    table = case_rows(atlas)
    assert len(table) == 5 * len(NETS)
    inside = (table["low"] <= table["gain"]) & (table["gain"] <= table["high"])
    assert list(table["inside"]) == list(inside)


def test_people_read_points_and_the_count(atlas):
    text = markdown(atlas)
    rows = {row[0]: row for row in rows_of(text)}
    assert re.fullmatch(r"\+2\.0\d\u00a0±\u00a00\.\d\d", rows["blur_max"][2])
    assert rows["blur_max"][4:6] == [">99 %", "maybe"]
    assert rows["average"][4:6] == ["<1 %", "no"]
    assert rows["max"][2:5] == ["–", "–", "–"]
    assert f"Of 30 gains {atlas.kept.inside} lie in the 95 % interval" in text
    assert sum(", cifar10" in row[0] for row in rows.values()) == len(NETS)


def test_logarithms_are_no_points(runs):
    text = markdown(make_atlas(read_records(runs)[0], scale=LOG_ERROR, repeats=1))
    assert "of the error's logarithm" in text
    assert "points" not in text


def test_figures_show_every_pool_and_net(atlas):
    axes = expected_figure(atlas, "Expected").axes[0]
    assert [label.get_text() for label in axes.get_yticklabels()] == sorted(set(GAINS) - {"max"}, key=GAINS.get)
    axes = gains_figure(atlas, "Gains").axes[0]
    assert len(axes.texts) == 5 * len(NETS)
    shown = {(int(text.get_position()[0]), int(text.get_position()[1])): text.get_text() for text in axes.texts}
    order = [label.get_text() for label in axes.get_yticklabels()]
    assert order[0] == "blur_max"
    gain = atlas.gains["blur_max"][atlas.nets[2]].mean
    assert shown[2, 0] == f"{100 * gain:+.1f}".replace("-", "−")


def test_the_command_prints_and_writes_what_it_says(runs, tmp_path, capsys):
    features = tmp_path / "nets.yaml"
    features.write_text("".join(f"- {{model: {net}, data: cifar10, depth: {at}}}\n" for at, net in enumerate(NETS)))
    line = ["atlas", str(runs), "--simulations", "2", "--features", str(features), "--properties", "forward_flops"]
    assert main([*line, "--output", str(tmp_path / "out")]) == 0
    text = capsys.readouterr().out
    assert (tmp_path / "out/atlas.md").read_text() == f"# Pools over nets\n\n{text}"
    assert "| depth |" in text
    table = pd.read_csv(tmp_path / "out/atlas.csv")
    assert list(table["pool"]) == sorted(GAINS, key=GAINS.get, reverse=True)
    names = {path.name for path in (tmp_path / "out").iterdir()}
    figures = {f"{name}.{ending}" for name in ("expected", "gains") for ending in ("png", "svg")}
    assert names == {"atlas.md", "atlas.csv", "gains.csv", *figures}


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--simulations", "0"], "--simulations must be a whole number of at least 1, got 0"),
        (["--properties", "forward_flop"], "no record has a number 'forward_flop'. Did you mean 'forward_flops'"),
        (["--control", "mux"], "--control: there is no pool 'mux' here. Did you mean 'max'?"),
        (["--features", "absent.yaml"], "absent.yaml"),
    ],
)
def test_bad_input_is_named(runs, options, words, capsys):
    assert main(["atlas", str(runs), *options]) in (1, 2)
    assert words in capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("depth: 3", "must hold a list of entries"),
        ("- {model: resnet, depth: 3}", "entry 1: data must be a name as tables have it, got None"),
        ("- {model: resnet, data: cifar10, depth: deep}", "entry 1: depth must be a number, got 'deep'"),
        ("- {model: resnet, data: cifar10, grey: true}", "entry 1: grey must be a number, got True"),
    ],
)
def test_features_that_are_none_are_refused(tmp_path, text, words):
    path = tmp_path / "nets.yaml"
    path.write_text(text)
    with pytest.raises(ValueError, match=re.escape(words)):
        read_features(path)
