"""What a field of a record may be."""

import math

import pytest

from poolbench.records import kinds


@pytest.mark.parametrize("value", [0, -3, 1.5, 5.8e32, 1e308, math.inf, math.nan], ids=str)
def test_a_curve_that_diverges_is_a_curve(value):
    assert kinds._curve_number(value)


@pytest.mark.parametrize("value", [True, None, "1", [1], 10**400], ids=["truth", "none", "text", "list", "huge"])
def test_what_is_no_number_is_no_part_of_a_curve(value):
    assert not kinds._curve_number(value)
