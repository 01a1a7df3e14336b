import itertools

import matplotlib
import numpy as np
import pandas as pd
import pytest
from matplotlib.text import Text

from poolbench.records.collect import collect, collect_metrics
from poolbench.records.read import read_records
from poolbench.report.curves import curves_figure
from poolbench.report.plots import accuracy_figure, cost_figure, save
from poolbench.report.spent import spent_figure
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
    endings = (".png", ".svg", ".pdf")
    first = save(accuracy_figure(rows, cells, "title"), tmp_path / "first", endings)
    second = save(accuracy_figure(rows, cells, "title"), tmp_path / "second", endings)
    assert tuple(path.suffix for path in first) == endings
    for a, b in zip(first, second, strict=True):
        assert a.read_bytes() == b.read_bytes()


def test_files_hold_no_date(tables, tmp_path):
    png, svg, pdf = save(accuracy_figure(*tables[:2], "title"), tmp_path / "figure", (".png", ".svg", ".pdf"))
    assert b"dc:date" not in svg.read_bytes()
    assert b"Software" not in png.read_bytes()
    assert pdf.read_bytes().startswith(b"%PDF")
    assert b"Date" not in pdf.read_bytes()


def test_a_report_gets_no_pdf_unless_asked(tables, tmp_path):
    assert [path.suffix for path in save(accuracy_figure(*tables[:2], "title"), tmp_path / "figure")] == [
        ".png",
        ".svg",
    ]


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


def _boxes(figure):
    """Text -> its box in pixels, of all texts of a figure's axes."""
    figure.draw_without_rendering()
    labels = [text for axes in figure.axes for text in (*axes.texts, *axes.get_yticklabels())]
    return [(text.get_text(), Text.get_window_extent(text)) for text in labels if text.get_text()]


LONG = "strided_conv(kernel_size=2,norm=false,activation=false)"


@pytest.mark.parametrize("pools", [["max", LONG, "lp"], ["average", LONG, "lp"]], ids=["baseline", "none"])
def test_no_number_covers_another_one_whatever_the_names(pools, tmp_path):
    rows, cells, _ = _tables(tmp_path, pools, 3)
    figure = accuracy_figure(rows, cells, "title")
    for (one, a), (other, b) in itertools.combinations(_boxes(figure), 2):
        assert min(a.x1, b.x1) - max(a.x0, b.x0) <= 1 or min(a.y1, b.y1) - max(a.y0, b.y0) <= 2, (one, other)
    assert figure.axes[0].get_window_extent().width > 0.3 * figure.bbox.width


def test_differences_and_verdicts_stand_where_there_is_a_baseline(tmp_path):
    for name, pools, told in (("with", ["max", "lp"], True), ("without", ["average", "lp"], False)):
        rows, cells, _ = _tables(tmp_path / name, pools, 3)
        words = {text.get_text() for text in _texts(accuracy_figure(rows, cells, "title"))}
        assert {"difference", "verdict", "baseline"} & words == (
            {"difference", "verdict", "baseline"} if told else set()
        )
        assert any(text.startswith(f"{100 * rows['test_accuracy'][0]:.2f} ± ") for text in words)


def test_a_hair_of_accuracy_does_not_fill_an_axis(tables):
    rows, cells, _ = tables
    same = {name: 0.8 for name in ("test_accuracy", "test_accuracy_low", "test_accuracy_high")}
    low, high = accuracy_figure(rows.assign(**same), cells.assign(test_accuracy=0.8), "title").axes[0].get_xlim()
    assert high - low == pytest.approx(0.5)
    low, high = cost_figure(rows.assign(**same), "title").axes[0].get_ylim()
    assert high - low >= 0.5


def test_many_pools_get_a_panel_and_a_legend_entry_each(tmp_path):
    pools = [f"pool{i:02d}" for i in range(18)]
    rows, cells, curves = _tables(tmp_path, ["max", *pools], 2)
    panels = [axes for axes in curves_figure(curves, rows, "title").axes if axes.get_visible()]
    assert sorted(axes.get_title(loc="left") for axes in panels) == pools  # of the difference to max
    assert len(cost_figure(rows, "title").legends[0].get_texts()) == 19
    assert accuracy_figure(rows, cells, "title").axes[0].get_yticklabels()[0].get_text() in rows["pool"].tolist()
    alone = rows.assign(baseline=False)
    panels = [axes for axes in curves_figure(curves, alone, "title").axes if axes.get_visible()]
    assert sorted(axes.get_title(loc="left") for axes in panels) == ["max", *pools]


def test_validation_accuracy_has_a_panel_when_there_is_one_and_is_compared(tmp_path):
    rows, _, curves = _tables(tmp_path, ["max", "lp"], 2, data__validation=0.1)
    labels = [axes.get_ylabel() for axes in curves_figure(curves, rows, "title").axes]
    assert [label.split()[0] for label in labels] == ["training", "validation", "validation"]
    assert "minus that of max (points)" in labels[-1]


def test_the_difference_of_curves_is_taken_seed_by_seed(tables):
    rows, _, curves = tables
    axes = curves_figure(curves, rows, "title").axes[-1]
    wide = curves.pivot(index=["seed", "epoch"], columns="pool", values="train_accuracy")
    ends = {text.get_text(): text.xy for text in axes.texts}
    assert ends.keys() == set(rows["pool"])
    for pool, (epoch, y) in ends.items():
        gap = 100 * (wide[pool] - wide["max"]).xs(epoch, level="epoch")
        assert y == pytest.approx(gap.mean(), abs=1e-9)


def test_an_axis_of_differences_is_no_magnifying_glass_and_fits_the_later_epochs(tables):
    rows, _, curves = tables
    same = curves.assign(train_accuracy=0.5 + 0.01 * curves["epoch"])
    low, high = curves_figure(same, rows, "title").axes[-1].get_ylim()
    assert high - low == pytest.approx(2.0)
    early = same.assign(train_accuracy=same["train_accuracy"].where((same["epoch"] > 1) | (same["pool"] != "lp"), 0.1))
    axes = curves_figure(early, rows, "title").axes[-1]
    assert axes.get_ylim() == pytest.approx((low, high))
    assert "axis fits epochs from 3 on" in axes.get_ylabel()


def test_without_a_baseline_curves_are_compared_with_nothing(tmp_path):
    rows, _, curves = _tables(tmp_path, ["average", "lp"], 2)
    assert len(curves_figure(curves, rows, "title").axes) == 1


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
    unit = rows["forward_flops"][rows["baseline"]].iloc[0]
    figure = cost_figure(timed, "title")
    for axes, (name, scale) in zip(figure.axes, (("forward_flops", 1 / unit), ("train_time_ratio", 1.0)), strict=True):
        at = {text.get_text(): text.xy for text in axes.texts}
        assert at.keys() == set(rows.index)
        for pool, (x, y) in at.items():
            assert (x, y) == pytest.approx((rows[name][pool] * scale, 100 * rows["test_accuracy"][pool]))


def test_a_percent_of_computation_does_not_fill_an_axis(tables):
    rows = tables[0].assign(forward_flops=[35e6 + 1e5 * place for place in range(len(tables[0]))])
    low, high = cost_figure(rows, "title").axes[0].get_xlim()
    assert (low, high) == pytest.approx((0.8, 1.25))
    axes = cost_figure(rows.assign(baseline=False), "title").axes[0]
    assert axes.get_xlim() == pytest.approx((0.8 * 35.3, 1.25 * 35.3), rel=5e-3)
    assert "MFLOPs" in axes.get_xlabel()


def test_costs_many_times_apart_stand_on_a_log_axis_with_plain_numbers(tables):
    rows = tables[0].assign(forward_flops=[35e6 * 3**place for place in range(len(tables[0]))])
    axes = cost_figure(rows, "title").axes[0]
    assert axes.get_xscale() == "log"
    axes.figure.canvas.draw()
    shown = [label.get_text() for label in axes.get_xticklabels() if label.get_text()]
    assert not any("$" in label for label in shown)
    assert len(shown) >= 3
    assert cost_figure(tables[0], "title").axes[0].get_xscale() == "linear"


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
    figure = spent_figure(cells, "title", targets=[(0.9, 1e13)])
    left, right = figure.axes
    for axes, column in ((left, "train_flops"), (right, "train_seconds")):
        drawn = [line for line in axes.lines if line.get_marker() == "."]
        points = sorted((x, y) for line in drawn for x, y in zip(line.get_xdata(), line.get_ydata(), strict=True))
        timed = cells.dropna(subset=[column])
        wanted = sorted(zip(timed[column], 100 * (1 - timed["test_accuracy"]), strict=True))
        np.testing.assert_allclose(points, wanted)
    # The mean over the seeds of a recipe, joined to that of the next.
    joined = [line for line in left.lines if len(line.get_xdata()) == 2 and line.get_linestyle() != "None"]
    assert any(list(line.get_ydata()) == pytest.approx([40.0, 20.0]) for line in joined)
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["one", "other", "untimed", "target"]
    colours = [handle.get_color() for handle in figure.legends[0].legend_handles[:3]]
    assert len(set(colours)) == 3
    target = next(line for line in left.lines if line.get_marker() == "+" and len(line.get_xdata()))
    assert (target.get_xdata()[0], target.get_ydata()[0]) == pytest.approx((1e13, 10.0))
    assert figure.get_suptitle() == "title"
    figure.canvas.draw()
    labels = [label.get_text() for label in left.get_xticklabels()]
    assert "1e12" in labels
    assert not any("$" in label for label in labels)


def _spent(accuracies, seconds=10.0):
    n = len(accuracies)
    columns = {"net": ["one"] * n, "recipe": [f"r{i}" for i in range(n)], "test_accuracy": accuracies}
    return pd.DataFrame(columns | {"train_flops": [1e12 * (i + 1) for i in range(n)], "train_seconds": seconds})


@pytest.mark.parametrize("accuracies", [[0.85, 0.9, 0.93], [0.95, 0.951], [0.1, 0.999], [1.0], [0.0]])
def test_errors_stand_on_a_log_axis_with_ticks(accuracies):
    axes = spent_figure(_spent(accuracies), "title").axes[0]
    assert axes.get_yscale() == "log"
    low, high = axes.get_ylim()
    shown = [label.get_text() for label in axes.get_yticklabels() if label.get_text()]
    assert len(shown) >= 2
    for error in 100 * (1 - np.array(accuracies)):
        assert low <= max(error, 0.01) <= high
    assert not any("$" in text for text in shown)


def test_without_times_there_is_no_panel_of_times():
    assert len(spent_figure(_spent([0.5, 0.8], np.nan), "title").axes) == 1


def test_pools_that_are_not_counted_are_named_under_the_axis_and_not_drawn(tables):
    rows = tables[0].copy()
    gone = rows["pool"].iloc[-1]
    rows.loc[rows["pool"] == gone, "forward_flops"] = None
    axes = cost_figure(rows, "title").axes[0]
    assert f"not counted, so not drawn: {gone}" in axes.get_xlabel()
    assert gone not in {text.get_text() for text in axes.texts}
    assert "not counted" not in cost_figure(tables[0], "title").axes[0].get_xlabel()
