import itertools

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.text import Text

from poolbench.report.placement import label_points, spread

HEIGHTS = st.lists(st.floats(0, 1), min_size=1, max_size=12)


@settings(deadline=None, derandomize=True)
@given(HEIGHTS)
def test_spread_keeps_gap_order_and_bounds(wanted):
    placed = spread(wanted, 0.05, 0, 1)
    assert min(placed) >= -1e-9
    assert max(placed) <= 1 + 1e-9
    for (a, x), (b, y) in itertools.combinations(zip(wanted, placed, strict=True), 2):
        assert abs(x - y) >= 0.05 - 1e-9
        assert (a - b) * (x - y) >= 0


def test_spread_leaves_alone_what_has_room():
    assert spread([0.9, 0.1, 0.5], 0.1, 0, 1) == [0.9, 0.1, 0.5]


def test_spread_is_even_when_there_is_no_room():
    assert np.allclose(np.diff(sorted(spread([0.5] * 5, 1.0, 0, 1))), 0.25)


def test_labels_cover_neither_each_other_nor_any_point():
    figure = Figure(figsize=(6, 4), dpi=100)
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    points = [(x, y) for x in (1.0, 1.05, 1.2) for y in (1.0, 1.1)] + [(3.0, 2.0)]
    axes.plot(*zip(*points, strict=True), "o")
    figure.draw_without_rendering()
    label_points(axes, points, [(y - 0.02, y + 0.02) for _, y in points], [f"pool {i}" for i in range(7)], ["k"] * 7)
    figure.draw_without_rendering()
    boxes = [Text.get_window_extent(text) for text in axes.texts]
    assert len(boxes) == 7
    assert not any(a.overlaps(b) for a, b in itertools.combinations(boxes, 2))
    assert not any(box.contains(*axes.transData.transform(point)) for box in boxes for point in points)
    frame = axes.get_window_extent()
    assert all(frame.contains(box.x0, box.y0) and frame.contains(box.x1, box.y1) for box in boxes)
