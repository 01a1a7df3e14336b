import matplotlib
import numpy as np
import pandas as pd
import pytest
from matplotlib.text import Text

from poolbench.records.collect import collect, collect_metrics
from poolbench.records.read import read_records
from poolbench.report.plots import accuracy_figure, cost_figure, curves_figure, save, spent_figure
from poolbench.report.summary import finished, summarise
from tests.report.synthetic import POOLS, make_runs


def _tables(runs, pools, seeds, **changes):
    records = read_records(make_runs(runs, pools, seeds, **changes))[0]
    cells = collect(records)
    return summarise(cells), finished(cells), collect_metrics(records)


@pytest.fixture(scope="module")
def tables(tmp_path_factory):
    return _tables(tmp_path_factory.mktemp("runs"), list(POOLS), 4)


def _figures(rows, cells, curves):
    return accuracy_figure(rows, cells, "title"), curves_figure(curves, rows, "title"), cost_figure(rows, "title")


def _timed(rows, ratios=None):
    """``rows`` with ratios of time, by default another one for each pool."""
    ratios = ratios or [1.0 + 0.3 * place for place in range(len(rows))]
    bounds = {
        f"train_time_ratio{end}": [ratio + by for ratio in ratios] for end, by in (("_low", -0.1), ("_high", 0.2))
    }
    return rows.assign(train_time_ratio=ratios, **bounds)


def _texts(figure):
    return [text for text in figure.findobj(Text) if text.get_text() and text.get_visible()]


def test_the_same_data_gives_the_same_bytes(tables, tmp_path):
    rows, cells, _ = tables
    first = save(accuracy_figure(rows, cells, "title"), tmp_path / "first")
    second = save(accuracy_figure(rows, cells, "title"), tmp_path / "second")
    assert [path.suffix for path in first] == [".png", ".svg"]
    for a, b in zip(first, second, strict=True):
        assert a.read_bytes() == b.read_bytes()


def test_files_hold_no_date(tables, tmp_path):
    png, svg = save(accuracy_figure(*tables[:2], "title"), tmp_path / "figure")
    assert b"dc:date" not in svg.read_bytes()
    assert b"Software" not in png.read_bytes()


def test_the_users_matplotlib_settings_are_neither_used_nor_changed(tables, tmp_path):
    rows, cells, _ = tables
    plain = save(accuracy_figure(rows, cells, "title"), tmp_path / "plain")[0].read_bytes()
    with matplotlib.rc_context({"font.size": 30, "savefig.dpi": 30, "axes.facecolor": "red"}):
        assert save(accuracy_figure(rows, cells, "title"), tmp_path / "own")[0].read_bytes() == plain
        assert matplotlib.rcParams["font.size"] == 30


def test_every_seed_is_a_dot_at_its_accuracy(tables):
    rows, cells, _ = tables
    axes = accuracy_figure(rows, cells, "title").axes[0]
    dots = np.concatenate([line.get_xdata() for line in axes.lines if line.get_marker() == "."])
    assert np.allclose(np.sort(dots), np.sort(100 * cells["test_accuracy"]))


def test_figures_name_their_pools_and_say_where_an_axis_starts(tables):
    rows, cells, curves = tables
    for figure in _figures(rows, cells, curves):
        words = "\n".join(text.get_text() for text in _texts(figure))
        assert all(pool in words for pool in POOLS)
        assert "title" in words
        assert "not at 0" in words


def test_no_text_is_smaller_than_9_points_or_outside_of_its_figure(tables):
    rows, cells, curves = tables
    for figure in _figures(rows, cells, curves):
        figure.draw_without_rendering()
        frame = figure.bbox.padded(1)
        assert all(text.get_fontsize() >= 9 for text in _texts(figure))
        labels = [text for axes in figure.axes for text in (*axes.texts, axes.xaxis.label, axes.yaxis.label)]
        for text in filter(Text.get_text, (*labels, *figure.texts)):
            box = Text.get_window_extent(text)
            assert (frame.x0 <= box.x0, box.x1 <= frame.x1) == (True, True), text


def test_many_pools_get_a_panel_and_a_legend_entry_each(tmp_path):
    pools = [f"pool{i:02d}" for i in range(18)]
    rows, cells, curves = _tables(tmp_path, ["max", *pools], 2)
    panels = [axes for axes in curves_figure(curves, rows, "title").axes if axes.get_visible()]
    assert sorted(axes.get_title(loc="left") for axes in panels) == ["max", *pools]
    assert len(cost_figure(rows, "title").legends[0].get_texts()) == 19
    assert accuracy_figure(rows, cells, "title").axes[0].get_yticklabels()[0].get_text() in rows["pool"].tolist()


def test_validation_accuracy_has_a_panel_when_there_is_one(tmp_path):
    rows, _, curves = _tables(tmp_path, ["max", "lp"], 2, data__validation=0.1)
    labels = [axes.get_ylabel() for axes in curves_figure(curves, rows, "title").axes]
    assert [label.split()[0] for label in labels] == ["training", "validation"]


def test_one_pool_one_seed_and_one_epoch_can_be_drawn(tmp_path):
    rows, cells, curves = _tables(tmp_path / "runs", ["max"], 1, trainer__epochs=1)
    for name, figure in {
        "a": accuracy_figure(rows, cells, "title"),
        "b": curves_figure(curves, rows, "title"),
        "c": cost_figure(rows, "title"),
    }.items():
        assert all(path.stat().st_size > 1000 for path in save(figure, tmp_path / name))


def test_an_untrained_net_has_no_curves(tmp_path):
    rows, _, curves = _tables(tmp_path, ["max", "lp"], 1, trainer__epochs=0)
    assert curves_figure(curves, rows, "title") is None
    assert len(cost_figure(rows, "title").axes) == 1


def test_a_name_in_the_cost_figure_belongs_to_the_point_of_its_pool(tables):
    timed = _timed(tables[0])
    rows = timed.set_index("pool")
    for axes, (name, scale) in zip(
        cost_figure(timed, "title").axes, (("forward_flops", 1e-6), ("train_time_ratio", 1.0)), strict=True
    ):
        at = {text.get_text(): text.xy for text in axes.texts}
        assert at.keys() == set(rows.index)
        for pool, (x, y) in at.items():
            assert (x, y) == pytest.approx((rows[name][pool] * scale, 100 * rows["test_accuracy"][pool]))


def test_times_have_a_panel_where_nets_were_timed_with_their_quartiles(tables):
    rows = tables[0]
    assert len(cost_figure(rows, "title").axes) == 1
    times = [float("nan"), 1.01, *[1.0] * (len(rows) - 2)]
    _, panel = cost_figure(_timed(rows, times), "title").axes
    assert rows["pool"][0] not in {text.get_text() for text in panel.texts}
    bars = [tuple(line.get_xdata()) for line in panel.lines if len(set(line.get_ydata())) == 1]
    assert (pytest.approx(0.91), pytest.approx(1.21)) in bars
    low, high = panel.get_xlim()
    assert (low, high) == (0.8, pytest.approx(1.25, abs=0.05))  # a percent is not drawn as a gulf
    assert "bar: quartiles" in panel.get_xlabel()


def test_what_was_spent_is_drawn_for_every_cell_and_net():
    cells = pd.DataFrame(
        {
            "net": ["one", "one", "one", "other", "untimed"],
            "recipe": ["a", "a", "b", "c", "d"],
            "test_accuracy": [0.5, 0.7, 0.8, 0.4, 0.9],
            "train_flops": [1e12, 1e12, 3e12, 1e13, 1e13],
            "train_seconds": [10.0, 20.0, 50.0, 70.0, np.nan],
        }
    )
    figure = spent_figure(cells, targets=[(0.9, 1e13)])
    left, right = figure.axes
    for axes, column in ((left, "train_flops"), (right, "train_seconds")):
        drawn = [line for line in axes.lines if line.get_marker() == "."]
        points = sorted((x, y) for line in drawn for x, y in zip(line.get_xdata(), line.get_ydata(), strict=True))
        timed = cells.dropna(subset=[column])
        wanted = sorted(zip(timed[column], 100 * timed["test_accuracy"], strict=True))
        np.testing.assert_allclose(points, wanted)
    # The mean over the seeds of a recipe, joined to that of the next.
    joined = [line for line in left.lines if len(line.get_xdata()) == 2 and line.get_linestyle() != "None"]
    assert any(list(line.get_ydata()) == pytest.approx([60.0, 80.0]) for line in joined)
    assert [text.get_text() for text in left.get_legend().get_texts()] == ["one", "other", "untimed", "target"]
    colours = [line.get_color() for line in left.lines if line.get_label() in ("one", "other", "untimed")]
    assert len(set(colours)) == 3
    figure.canvas.draw()
    labels = [label.get_text() for label in left.get_xticklabels()]
    assert "1e12" in labels
    assert not any("$" in label for label in labels)
