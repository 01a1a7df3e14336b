import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from poolbench import create_pool
from tests.pooling.reference import both, by_loop, geometries_and_maps


def overlap(kernel_size, stride, padding):
    """Whether windows overlap along a side, and leave nothing out along the other."""
    beyond = [window - step for window, step in zip(both(kernel_size), both(stride), strict=True)]
    return min(beyond) >= 0 and max(beyond) > 0


OF_WINDOW = {"max": lambda cells: cells.amax(-1), "average": lambda cells: cells.mean(-1)}


@pytest.mark.parametrize("mode", ["max", "average"])
@given(case=geometries_and_maps().filter(lambda case: overlap(**case[0])))
def test_each_window_is_clipped_to_the_map(mode, case):
    options, x = case
    pool = create_pool("overlapping", channels=x.shape[1], mode=mode, **options)
    torch.testing.assert_close(pool(x), by_loop(x, OF_WINDOW[mode], **options))


def test_the_maps_have_the_sizes_of_the_disjoint_control():
    pool, sizes = create_pool("overlapping", channels=1), [32]
    x = torch.rand(1, 1, 32, 32)
    while sizes[-1] > 4:
        x = pool(x)
        sizes.append(x.shape[-1])
    assert sizes == [32, 16, 8, 4]


@given(st.integers(2, 20), st.integers(2, 20), st.random_module())
def test_its_windows_hold_the_disjoint_ones(height, width, seed):
    x = torch.randn(2, 3, height, width)
    assert (create_pool("overlapping", channels=3)(x) >= create_pool("max", channels=3)(x)).all()


def test_known_values():
    x = torch.arange(16.0).view(1, 1, 4, 4)
    assert create_pool("overlapping", channels=1)(x).flatten().tolist() == [10, 11, 14, 15]
    assert create_pool("overlapping", channels=1, padding=1)(x).flatten().tolist() == [5, 7, 13, 15]
    assert create_pool("overlapping", channels=1, mode="average")(x).flatten().tolist() == [5, 6.5, 11, 12.5]


@pytest.mark.parametrize("options", [{"kernel_size": 2}, {"stride": 3}, {"stride": None}], ids=str)
def test_windows_that_do_not_overlap_are_refused(options):
    with pytest.raises(ValueError, match="kernel_size must be above stride"):
        create_pool("overlapping", channels=1, **options)


def test_an_unknown_mode_is_refused():
    with pytest.raises(ValueError, match="mode must be 'max' or 'average', got 'sum'"):
        create_pool("overlapping", channels=1, mode="sum")


def test_flops_are_those_of_the_mode():
    assert create_pool("overlapping", channels=5).flops((8, 6)) == 5 * 4 * 3 * 8
    assert create_pool("overlapping", channels=5, mode="average").flops((8, 6)) == 5 * 4 * 3 * 9
