import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from poolbench import create_model, create_pool, swap
from tests.pooling.reference import both, geometries_and_maps

MODES = {"max": lambda cells: cells.amax((2, 3)), "average": lambda cells: cells.mean((2, 3))}


def windows_from(x, pool, top, left):
    """Window by window, the first of which starts at that row and column."""
    (height, width), (high, wide) = pool.output_size(x.shape[2:]), both(pool.kernel_size)
    down, right = both(pool.stride)
    y = torch.empty(*x.shape[:2], height, width, dtype=x.dtype)
    for i in range(height):
        for j in range(width):
            first = ((i * down + top, high), (j * right + left, wide))
            rows, columns = (slice(max(0, n), max(0, n + k)) for n, k in first)
            y[..., i, j] = MODES[pool.mode](x[..., rows, columns])
    return y


def starts(x, pool):
    """All that may be drawn for rows and for columns."""
    found = []
    geometry = map(both, (pool.kernel_size, pool.stride, pool.padding))
    for side, n, k, step, border in zip(x.shape[2:], pool.output_size(x.shape[2:]), *geometry, strict=True):
        spare = side + 2 * border - (n - 1) * step - k
        found.append([a - border for a in range(min(0, spare), max(0, spare) + 1)])
    return found


@pytest.mark.parametrize("mode", MODES)
@given(case=geometries_and_maps())
def test_training_draws_where_the_windows_start(mode, case):
    options, x = case
    x.requires_grad_()
    pool = create_pool("balanced_stride", channels=x.shape[1], mode=mode, **options).train()
    y = pool(x)
    rows, columns = starts(x, pool)
    fits = [z for z in (windows_from(x, pool, a, b) for a in rows for b in columns) if torch.allclose(y, z)]
    assert fits
    slopes = [torch.autograd.grad(z.sum(), x, retain_graph=True)[0] for z in (y, *fits)]
    # Of equal cells torch's own maximum gives the gradient to the first, amax to all.
    assert mode == "max" or any(torch.allclose(slopes[0], slope) for slope in slopes[1:])


@given(case=geometries_and_maps(), site=st.integers(0, 3))
def test_evaluation_starts_first_and_last_in_turn(case, site):
    options, x = case
    for mode in MODES:
        pool = create_pool("balanced_stride", channels=x.shape[1], mode=mode, **options).eval()
        pool.site = site
        borders = both(pool.padding)
        last = [one[-1] if one[-1] > -border else one[0] for one, border in zip(starts(x, pool), borders, strict=True)]
        top, left = last if site % 2 else (-border for border in borders)
        torch.testing.assert_close(pool(x), windows_from(x, pool, top, left))


@pytest.mark.parametrize("mode", MODES)
@given(case=geometries_and_maps())
def test_by_their_numbers_rows_and_columns_give_the_same(mode, case):
    options, x = case
    pool = create_pool("balanced_stride", channels=x.shape[1], mode=mode, **options)
    for top, left in zip(*(one[:: max(1, len(one) - 1)] for one in starts(x, pool)), strict=False):
        known = pool._starting_at(x, top, left)
        torch.testing.assert_close(pool._picked(x, (torch.tensor(top), torch.tensor(left))), known)


@pytest.mark.parametrize(
    ("options", "size", "count"), [({}, 8, 2), ({}, 9, 3), ({"kernel_size": 2, "padding": 0}, 7, 2)]
)
def test_all_starts_are_equally_likely_and_rows_do_not_follow_columns(options, size, count):
    pool, x = create_pool("balanced_stride", channels=1, **options).train(), torch.randn(1, 1, size, size)
    rows, columns = starts(x, pool)
    known = {(a, b): windows_from(x, pool, a, b) for a in rows for b in columns}
    assert len(known) == count**2
    torch.manual_seed(0)
    passes = 400 * count**2
    drawn = dict.fromkeys(known, 0)
    for _ in range(passes):
        y = pool(x)
        drawn[next(key for key, z in known.items() if torch.equal(y, z))] += 1
    p = 1 / count**2
    assert all(abs(n / passes - p) < 5 * (p * (1 - p) / passes) ** 0.5 for n in drawn.values())


@pytest.mark.parametrize("size", [(8, 8), (6, 10)])
def test_where_nothing_is_left_over_it_is_the_maximum(size):
    pool, x = create_pool("balanced_stride", channels=3, kernel_size=2, padding=0), torch.randn(2, 3, *size)
    state = torch.get_rng_state()
    assert torch.equal(pool.train()(x), F.max_pool2d(x, 2))
    torch.set_rng_state(state)
    assert torch.equal(pool.eval()(x), F.max_pool2d(x, 2))


def test_the_first_site_of_a_residual_net_is_its_maximum():
    x = torch.randn(2, 3, 16, 16)
    assert torch.equal(create_pool("balanced_stride", channels=3).eval()(x), F.max_pool2d(x, 3, 2, 1))


def test_who_builds_a_net_counts_its_sites():
    model = create_model("convnet", pool="balanced_stride", widths=(4, 4, 4), depths=(1, 1, 1))
    assert [m.site for m in model.modules() if hasattr(m, "site")] == [0, 1, 2]
    net = nn.Sequential(nn.MaxPool2d(2), nn.Conv2d(3, 3, 1), nn.MaxPool2d(2))
    swap(net, "balanced_stride", input_size=(3, 16, 16))
    assert [m.site for m in net.modules() if hasattr(m, "site")] == [0, 1]


def test_a_site_that_starts_last_is_exported_at_any_size():
    pool = create_pool("balanced_stride", channels=3).eval()
    pool.site = 1
    sides = {axis: torch.export.Dim(name, min=4, max=64) for axis, name in ((2, "height"), (3, "width"))}
    program = torch.export.export(pool, (torch.randn(2, 3, 8, 9),), dynamic_shapes=(sides,), strict=False)
    for size in ((8, 9), (13, 12)):
        x = torch.randn(2, 3, *size)
        torch.testing.assert_close(program.module()(x), pool(x))


@pytest.mark.parametrize("mode", MODES)
def test_the_gradients_are_right(mode):
    pool = create_pool("balanced_stride", channels=2, mode=mode)
    x = torch.randn(2, 2, 7, 6, dtype=torch.float64, requires_grad=True)

    def drawn_alike(x):
        pool.generator = torch.Generator().manual_seed(1)
        return pool(x)

    assert torch.autograd.gradcheck(drawn_alike, x)


def test_errors_name_the_option():
    with pytest.raises(ValueError, match="BalancedStridePool2d: mode must be 'max' or 'average', got 'lp'"):
        create_pool("balanced_stride", channels=3, mode="lp")


@pytest.mark.parametrize(("mode", "each"), [("max", 8), ("average", 9)])
def test_it_has_no_parameters_and_costs_what_its_windows_do(mode, each):
    pool = create_pool("balanced_stride", channels=5, mode=mode)
    assert list(pool.parameters()) == []
    assert pool.flops((8, 6)) == 5 * 4 * 3 * each
