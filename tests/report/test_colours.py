import pytest

from poolbench.pooling import list_pools
from poolbench.report.colours import contrast_with_white, styles

MANY = [f"pool(option={i})" for i in range(60)]


def _contrast(colour):
    return contrast_with_white([int(colour[at : at + 2], 16) for at in (1, 3, 5)])


@pytest.mark.parametrize("pool", ["max", "lp", "average", "lp(p=3.0)", "my_own"])
def test_a_pool_has_its_colour_in_whatever_company(pool):
    assert styles([pool])[pool].colour == styles([pool, *MANY, "max", "soft"])[pool].colour


def test_no_two_pools_of_a_figure_look_the_same():
    looks = styles(dict.fromkeys([*list_pools(), *MANY[:40]])).values()
    assert len({(look.colour, look.marker) for look in looks}) == len(looks)


def test_the_most_usual_pools_differ_in_colour_and_in_marker():
    usual = ["max", "average", "lp", "overlapping", "strided_conv", "subsample", "stochastic", "mixed"]
    looks = styles(usual)
    assert len({look.colour for look in looks.values()}) == len({look.marker for look in looks.values()}) == len(usual)


def test_order_does_not_matter():
    assert styles(["max", *MANY]) == styles([*reversed(MANY), "max"])


@pytest.mark.parametrize("pool", ["max", "lp", "stochastic", "s3", "fractional_max"])
def test_marks_can_be_seen_and_text_read_on_white(pool):
    look = styles([pool])[pool]
    assert _contrast(look.colour) >= 2
    assert _contrast(look.ink) >= 4.5


def test_more_pools_than_looks_still_get_one_each():
    assert len(styles(f"p{i}" for i in range(300))) == 300
