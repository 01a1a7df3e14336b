import math

import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st

from poolbench import create_pool
from tests.pooling.reference import maps


def _ramp(stride, start, smoothness, side, n, match_size):
    """Where the ramp ends, and how long it is."""
    if match_size:
        return (n // 2 + 0.5) * start / stride, min(smoothness, 0.75 * (n // 2 + 0.5))
    return side / (2 * stride) + smoothness, smoothness


def _by_transform(x, strides, start, smoothness, size, match_size):
    """Transform, ramp, cut to ``size``, transform back; the halves of an even side's highest frequency averaged."""
    spectrum = torch.fft.fft2(x, norm="forward")
    for axis, stride, n in ((2, strides[0], size[0]), (3, strides[-1], size[1])):
        side = x.shape[axis]
        edge, ramp = _ramp(stride, start, smoothness, side, n, match_size)
        lines = []
        for k in [*range((n + 1) // 2), *range(-(n // 2), 0)]:
            line = spectrum.select(axis, k % side)
            if 2 * abs(k) == n:
                line = (line + spectrum.select(axis, -k % side)) / 2
            lines.append(line if k == 0 else line * ((edge - abs(k)) / ramp).clamp(0, 1))
        spectrum = torch.stack(lines, axis)
    return torch.fft.ifft2(spectrum, norm="forward").real


def _with_strides(values, **options):
    pool = create_pool("diff_stride", channels=3, **options).double()
    with torch.no_grad():
        pool.strides.copy_(torch.tensor(values))
    return pool


@pytest.mark.parametrize("match_size", [True, False])
@given(
    height=st.integers(4, 24),
    width=st.integers(4, 24),
    values=st.tuples(st.floats(1.1, 3), st.floats(1.1, 3)),
    smoothness=st.floats(0.5, 6),
    seed=st.random_module(),
)
def test_it_is_a_soft_low_pass_then_a_cut_and_learns_as_that(match_size, height, width, values, smoothness, seed):
    x = torch.randn(2, 3, height, width, dtype=torch.float64)
    pool = _with_strides(values, smoothness=smoothness, match_size=match_size)
    y = pool(x)
    assert tuple(y.shape[2:]) == pool.output_size((height, width))
    for side, n, stride in zip((height, width), y.shape[2:], values, strict=True):
        edge, ramp = _ramp(stride, 2, smoothness, side, n, match_size)
        assume(1 + 0.002 * ramp < edge < n // 2 + 0.998 * ramp)  # beyond, it is held
    expected = _by_transform(x, pool.strides, 2, smoothness, y.shape[2:], match_size)
    torch.testing.assert_close(y, expected, rtol=1e-6, atol=1e-6)
    along = torch.randn_like(y)
    (found,), (known,) = (torch.autograd.grad(one, pool.strides, along) for one in (y, expected))
    torch.testing.assert_close(found, known, rtol=1e-6, atol=1e-6)


@given(maps(2, 2))
def test_with_match_size_it_gives_the_size_of_any_pool(x):
    pool = create_pool("diff_stride", channels=x.shape[1]).double()
    assert tuple(pool(x).shape[2:]) == (x.shape[2] // 2, x.shape[3] // 2)


@pytest.mark.parametrize(
    ("stride", "side", "expected"),
    [(2, 64, 40), (4, 64, 24), (2, 32, 24), (2, 24, 20), (2, 20, 18), (2, 18, 18), (2, 16, 16), (2, 8, 8)],
)
def test_without_it_the_sizes_are_those_of_the_papers_code(stride, side, expected):
    pool = create_pool("diff_stride", channels=2, stride=stride, match_size=False)
    assert pool.output_size((side, side)) == (expected, expected)
    assert pool(torch.randn(1, 2, side, side)).shape[2:] == (expected, expected)


def test_without_it_the_size_follows_the_learned_stride():
    pool = _with_strides([4.0, 1.0], match_size=False)
    assert pool(torch.randn(1, 3, 64, 64).double()).shape[2:] == (24, 64)


@pytest.mark.parametrize("match_size", [True, False])
@pytest.mark.parametrize("value", [-3.0, 0.2])
def test_a_stride_below_1_behaves_as_1(value, match_size):
    x = torch.randn(2, 3, 12, 16, dtype=torch.float64)
    below, one = (_with_strides([stride, stride], match_size=match_size)(x) for stride in (value, 1.0))
    torch.testing.assert_close(below, one)
    if not match_size:  # nothing is cut: but for what is held on the ramp
        torch.testing.assert_close(one, x, rtol=0, atol=5e-3)


def test_with_a_short_ramp_it_keeps_all_frequencies_of_the_band():
    pool, place = create_pool("diff_stride", channels=3, match_size=False, smoothness=1e-3).double(), torch.arange(32)
    assert pool.output_size((32, 32)) == (18, 18)  # up to 8 and room for them, where spectral pooling gives 16
    waves = [(place * (2 * math.pi * k / 32)).double().cos().expand(1, 3, 32, 32) for k in (7, 8, 9, 10)]
    assert [pool(wave).abs().max().item() for wave in waves] == pytest.approx([1, 1, 0, 0], abs=1e-6)


@pytest.mark.parametrize("smoothness", [1.1, 4.0])
@pytest.mark.parametrize("match_size", [True, False])
@pytest.mark.parametrize("value", [-3.0, 0.2, 1.0, 1.2, 2.0, 3.1])
def test_no_stride_is_left_without_a_gradient(value, match_size, smoothness):
    pool = _with_strides([value, value], match_size=match_size, smoothness=smoothness)
    pool(torch.randn(2, 3, 32, 32).double()).square().sum().backward()
    assert (pool.strides.grad < 0).all()  # a larger stride blurs more


@pytest.mark.parametrize("value", [5.0, 50.0])
def test_a_stride_that_blurs_all_away_still_learns(value):
    pool = _with_strides([value, value])
    pool(torch.randn(2, 3, 8, 8).double()).square().sum().backward()
    assert (pool.strides.grad < 0).all()


@pytest.mark.parametrize("value", [0.5, 1.0, 2.0, 3.3, 40.0])
@pytest.mark.parametrize("match_size", [True, False])
def test_the_level_of_a_map_is_kept_whatever_is_learned(value, match_size):
    y = _with_strides([value, value], match_size=match_size)(torch.full((1, 3, 16, 12), 3.0).double())
    torch.testing.assert_close(y, torch.full_like(y, 3.0))


def test_a_small_stride_lets_the_whole_band_pass_as_spectral_pooling_does():
    x = torch.randn(2, 3, 32, 32, dtype=torch.float64)
    y = _with_strides([1.0, 1.0])(x)
    # But for what is held on the ramp: a thousandth of the highest frequency.
    torch.testing.assert_close(y, create_pool("spectral", channels=3)(x), rtol=0, atol=1e-3)


def test_at_the_start_it_lets_less_pass_than_spectral_pooling():
    place = torch.arange(32, dtype=torch.float64)
    heights = []
    for k in range(1, 9):
        wave = (place * (2 * math.pi * k / 32)).cos().expand(1, 3, 32, 32)
        heights.append(create_pool("diff_stride", channels=3).double()(wave).abs().max().item())
    # The ramp falls from 4.5 to 8.5; of 8, the highest, half is left by the average of its two halves.
    assert heights == pytest.approx([1, 1, 1, 1, 0.875, 0.625, 0.375, 0.125 / 2])


def test_one_stride_may_be_shared_or_fixed():
    x = torch.randn(1, 3, 8, 8)
    pools = [create_pool("diff_stride", channels=3, **o) for o in ({}, {"shared": True}, {"learnable": False})]
    assert [[tuple(p.shape) for p in pool.parameters()] for pool in pools] == [[(2,)], [(1,)], []]
    for pool in pools:
        torch.testing.assert_close(pool(x), pools[0](x))
        pool.load_state_dict({"strides": pool.strides * 2})
        assert not torch.allclose(pool(x), create_pool("diff_stride", channels=3)(x))
        pool.reset_parameters()
        torch.testing.assert_close(pool(x), create_pool("diff_stride", channels=3)(x))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"stride": 2.5}, "stride must be a whole number of at least 1, got 2.5, with match_size"),
        ({"stride": 0.5, "match_size": False}, "stride must be a number of at least 1, got 0.5"),
        ({"stride": "2"}, "stride must be a finite number, got '2'"),
        ({"smoothness": 0}, "smoothness must be a number above 0, got 0"),
        ({"shared": 1}, "shared must be true or false, got 1"),
        ({"learnable": "layer"}, "learnable must be true or false, got 'layer'"),
        ({"match_size": None}, "match_size must be true or false, got None"),
    ],
    ids=str,
)
def test_errors_name_the_option(options, words):
    with pytest.raises(ValueError, match=words) as caught:
        create_pool("diff_stride", channels=3, **options)
    assert "DiffStride2d" in str(caught.value)


def test_a_map_of_one_frequency_is_refused():
    with pytest.raises(ValueError, match="a map of 1x8 pixels has no frequency but one"):
        create_pool("diff_stride", channels=3, match_size=False).output_size((1, 8))


def test_flops_are_those_of_two_matrix_products():
    assert create_pool("diff_stride", channels=5).flops((8, 6)) == 5 * 2 * (4 * 8 * 6 + 4 * 3 * 6)
