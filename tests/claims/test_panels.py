import math

import pandas as pd
import pytest

from poolbench.claims.arms import ArmLook
from poolbench.claims.panels import probe_curves
from poolbench.report.colours import Style
from poolbench.statistics.estimates import mean_interval

ARMS = [ArmLook(name, Style("#000000", "o", "-"), (f"{name}-0", f"{name}-1")) for name in ("max", "lp")]
MAX, LP = ARMS


def table(**columns):
    return pd.DataFrame(
        {"run_id": ["max-0", "max-1", "lp-0", "lp-1"], "test_accuracy": [0.8, 0.9, 0.7, 0.8], **columns}
    )


def test_a_point_is_the_mean_over_the_arms_cells_with_its_interval():
    curves = probe_curves(ARMS, table(**{"test_accuracy_rotate_-10": [0.5, 0.6, 0.1, 0.2]}))
    assert curves["rotate"][MAX] == {-10.0: mean_interval([0.5, 0.6]), 0.0: mean_interval([0.8, 0.9])}
    assert curves["rotate"][LP][-10.0].mean == pytest.approx(0.15)


@pytest.mark.parametrize(
    ("probe", "amount", "places"),
    [
        ("scale", "2", [1.0, 2.0]),
        ("translate_x", "-2.5", [-2.5, 0.0]),
        ("translate_y", "5", [0.0, 5.0]),
        ("flip", "vertical", ["as it is", "vertical"]),
        ("draws", "4", [4.0]),  # a fixed draw is no number of draws
        ("size", "24", [24.0]),
        ("blur", "1.5", [1.5]),  # of somebody's own
    ],
)
def test_amounts_are_in_order_and_unchanged_images_are_where_they_belong(probe, amount, places):
    curves = probe_curves(ARMS, table(**{f"test_accuracy_{probe}_{amount}": [0.5, 0.6, 0.1, 0.2]}))
    assert list(curves) == [probe]
    assert list(curves[probe][MAX]) == places


def test_a_reading_at_the_unchanged_amount_is_not_replaced_by_the_plain_one():
    curves = probe_curves(ARMS, table(test_accuracy_scale_1=[0.1, 0.2, 0.3, 0.4]))
    assert curves["scale"][MAX] == {1.0: mean_interval([0.1, 0.2])}


def test_means_over_amounts_and_agreements_are_no_curves():
    none = [0.5] * 4
    assert (
        probe_curves(ARMS, table(test_accuracy_rotate=none, agreement_rotate_10=none, test_accuracy_translate_x=none))
        == {}
    )


def test_cells_without_the_number_are_left_out_plain_accuracy_and_all():
    curves = probe_curves(ARMS, table(test_accuracy_scale_2=[0.5, math.nan, math.nan, math.nan]))
    assert list(curves["scale"]) == [MAX]
    assert curves["scale"][MAX][1.0].n == 1
    assert curves["scale"][MAX][1.0].mean == 0.8


def test_a_cell_in_two_views_counts_once():
    cells = table(test_accuracy_scale_2=[0.5, 0.6, 0.1, 0.2])
    assert probe_curves(ARMS, pd.concat([cells, cells]))["scale"][MAX][2.0].n == 2
