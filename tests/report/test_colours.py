import itertools
from random import Random

import numpy as np
import pytest

from poolbench.pooling import list_pools
from poolbench.report.colours import COLOURS, contrast_with_white, styles

MANY = [f"pool(option={i})" for i in range(60)]


def _contrast(colour):
    return contrast_with_white([int(colour[at : at + 2], 16) for at in (1, 3, 5)])


@pytest.mark.parametrize("pool", ["max", "lp", "average", "native"])
def test_a_usual_pool_has_its_colour_in_whatever_company(pool):
    assert styles([pool])[pool].colour == styles([pool, *MANY, "max", "soft"])[pool].colour


@pytest.mark.parametrize("pool", ["lp", "strided_conv", "space_to_depth"])
def test_a_pool_with_options_has_the_colour_of_the_pool_unless_that_is_there(pool):
    other = f"{pool}(kernel_size=2)"
    assert styles([other])[other].colour == styles([pool])[pool].colour
    both = styles([pool, other])
    assert both[other].colour != both[pool].colour == styles([pool])[pool].colour


@pytest.mark.parametrize("seed", range(20))
def test_up_to_twelve_pools_of_a_figure_differ_in_colour_and_in_marker(seed):
    pools = Random(seed).sample([*list_pools(), "native", *MANY], 12)
    looks = styles(pools).values()
    assert len({look.colour for look in looks}) == len({look.marker for look in looks}) == 12


@pytest.mark.parametrize("seed", range(20))
def test_only_who_meets_another_one_at_home_moves(seed):
    pools = Random(seed).sample([*list_pools(), "native"], 8)
    looks, alone = styles(pools), {pool: styles([pool])[pool].colour for pool in pools}
    for pool in pools:
        if looks[pool].colour != alone[pool]:
            assert any(looks[other].colour == alone[pool] for other in pools)
        elif list(alone.values()).count(alone[pool]) > 1:
            assert all(looks[other].colour != alone[pool] for other in pools if other != pool)
    assert {look.colour for look in looks.values()} >= set(alone.values())


def test_max_is_black_and_native_is_not():
    looks = styles(["max", "native"])
    assert looks["max"].colour == "#000000"
    assert looks["native"].colour == styles(["native"])["native"].colour != "#000000"


# Machado, Oliveira and Fernandes 2009, severity 1, for linear RGB.
SIGHT = {
    "usual": np.eye(3),
    "protanope": np.array([[0.152, 1.053, -0.205], [0.115, 0.786, 0.099], [-0.004, -0.048, 1.052]]),
    "deuteranope": np.array([[0.367, 0.861, -0.228], [0.280, 0.673, 0.047], [-0.012, 0.043, 0.969]]),
}


def _lab(colour, sight):
    """CIELAB (D65) of a colour as ``sight`` sees it."""
    share = np.array([int(colour[at : at + 2], 16) for at in (1, 3, 5)]) / 255
    linear = np.where(share <= 0.04045, share / 12.92, ((share + 0.055) / 1.055) ** 2.4)
    seen = np.clip(SIGHT[sight] @ linear, 0, 1)
    to_xyz = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])
    xyz = to_xyz @ seen / np.array([0.9505, 1.0, 1.089])
    root = np.where(xyz > 0.008856, np.cbrt(xyz), 7.787 * xyz + 16 / 116)
    return np.array([116 * root[1] - 16, 500 * (root[0] - root[1]), 200 * (root[1] - root[2])])


@pytest.mark.parametrize("sight", SIGHT)
@pytest.mark.parametrize(("first", "least"), [(6, 18), (12, 8)])
def test_colours_can_be_told_apart_with_any_eyes(sight, first, least):
    pairs = itertools.combinations(COLOURS[:first], 2)
    near = min((float(np.linalg.norm(_lab(a, sight) - _lab(b, sight))), a, b) for a, b in pairs)
    assert near[0] >= least


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
