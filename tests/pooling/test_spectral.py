import math
from unittest import mock

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from poolbench import create_pool
from poolbench.pooling import spectral
from tests.pooling.reference import maps

# Of the two halves of an output's highest frequency, how much of each is kept.
HALVES = {
    "average": (0.5, 0.5),
    "energy": (0.5**0.5, 0.5**0.5),
    "zero": (0, 0),
    "real": (1, 0),
    "real, of the positive half": (0, 1),
}
both_ways = pytest.mark.parametrize("largest", [0, 128], ids=["transform", "matrices"])


def _by_frequency(x, size, nyquist="average", norm="forward", share=1.0):
    """The definition, one output frequency after the other; those above ``share`` of the band are dropped."""
    spectrum = torch.fft.fft2(x, norm="forward")
    y = torch.zeros(*x.shape[:2], *size, dtype=torch.complex128)
    waves = [torch.arange(n, dtype=torch.float64) / n * 2j * math.pi for n in size]
    for u in range(-(size[0] // 2), (size[0] + 1) // 2):
        for v in range(-(size[1] // 2), (size[1] + 1) // 2):
            if abs(u) > share * size[0] / 2 or abs(v) > share * size[1] / 2:
                continue
            value = 0
            for a, p in _sources(u, size[0], x.shape[2], nyquist):
                for b, q in _sources(v, size[1], x.shape[3], nyquist):
                    value = value + a * b * spectrum[..., p % x.shape[2], q % x.shape[3]]
            if isinstance(value, torch.Tensor):
                y += value[..., None, None] * ((waves[0] * u).exp()[:, None] * (waves[1] * v).exp())
    ratio = x.shape[2] * x.shape[3] / (size[0] * size[1])
    return y.real * {"forward": 1, "ortho": ratio**0.5, "backward": ratio}[norm]


def _sources(k, n, side, nyquist):
    """``(weight, frequency)`` of the input that make frequency ``k`` of the output."""
    if n == side or 2 * abs(k) != n:
        return [(1, k)]
    negative, positive = HALVES[nyquist]
    return [(negative, k), (positive, -k)]


@st.composite
def maps_and_sizes(draw):
    x = draw(maps())
    return x, tuple(draw(st.integers(1, side)) for side in x.shape[2:])


@both_ways
@pytest.mark.parametrize("nyquist", spectral.NYQUIST)
@given(case=maps_and_sizes(), norm=st.sampled_from(spectral.NORMS))
def test_it_keeps_the_low_frequencies_by_matrices_and_by_transform(largest, nyquist, case, norm):
    x, size = case
    pool = create_pool("spectral", channels=x.shape[1], output=size, nyquist=nyquist, norm=norm)
    with mock.patch.object(spectral, "LARGEST_MATRIX", largest):
        torch.testing.assert_close(pool(x), _by_frequency(x, size, nyquist, norm))


@both_ways
@given(
    case=maps_and_sizes(), nyquist=st.sampled_from(spectral.NYQUIST), least=st.floats(0, 0.99), seed=st.integers(0, 99)
)
def test_in_training_it_drops_what_lies_above_a_drawn_share_of_the_band(largest, case, nyquist, least, seed):
    x, size = case
    pool = create_pool("spectral", channels=x.shape[1], output=size, nyquist=nyquist, dropout_min=least)
    pool.generator = torch.Generator().manual_seed(seed)
    drawn = torch.rand((), dtype=torch.float64, generator=torch.Generator().manual_seed(seed)).item()
    share = least + (1 - least) * drawn
    with mock.patch.object(spectral, "LARGEST_MATRIX", largest):
        torch.testing.assert_close(pool.train()(x), _by_frequency(x, size, nyquist, share=share))
        torch.testing.assert_close(pool.eval()(x), _by_frequency(x, size, nyquist))


@both_ways
@pytest.mark.parametrize("nyquist", spectral.NYQUIST)
@pytest.mark.parametrize("seed", range(3))
def test_what_is_dropped_has_no_highest_frequency_left(largest, nyquist, seed):
    x = torch.randn(2, 3, 8, 12, dtype=torch.float64)
    pool = create_pool("spectral", channels=3, nyquist=nyquist, dropout_min=0.6).train()
    pool.generator = torch.Generator().manual_seed(seed)
    share = 0.6 + 0.4 * torch.rand((), dtype=torch.float64, generator=torch.Generator().manual_seed(seed)).item()
    with mock.patch.object(spectral, "LARGEST_MATRIX", largest):
        y = pool(x)
    torch.testing.assert_close(y, _by_frequency(x, (4, 6), nyquist, share=share))
    assert torch.fft.fft2(y)[..., 2, :].abs().max() < 1e-9
    assert torch.fft.fft2(y)[..., 3].abs().max() < 1e-9


def test_the_share_of_the_band_is_uniform():
    wave = (torch.arange(16) * (2 * math.pi * 4 / 16)).cos().expand(1, 1, 16, 16).contiguous()
    pool = create_pool("spectral", channels=1, ratio=1, dropout_min=0.25).train()
    torch.manual_seed(0)
    kept = sum(pool(wave).abs().max().item() > 0.5 for _ in range(600))
    # Frequency 4 of 8 is kept where 1/4 + 3/4 u >= 1/2; a binomial of 600 and 2/3 lies 58 away in 1 of 2e6 runs.
    assert abs(kept - 400) <= 58


def test_frequency_low_cut_pooling_may_keep_either_half():
    x = torch.randn(2, 3, 8, 6, dtype=torch.float64)
    y = create_pool("spectral", channels=3, nyquist="real")(x)
    torch.testing.assert_close(y, _by_frequency(x, (4, 3), "real, of the positive half"))
    x = torch.randn(2, 3, 8, 16, dtype=torch.float64)  # both sides of the output even
    y = create_pool("spectral", channels=3, nyquist="real")(x)
    torch.testing.assert_close(y, _by_frequency(x, (4, 8), "real, of the positive half"))
    # The difference to the average is one wave, the same in all maps up to its height.
    away = y - create_pool("spectral", channels=3)(x)
    checks = torch.tensor([[1.0, -1.0], [-1.0, 1.0]], dtype=torch.float64).repeat(2, 4)
    torch.testing.assert_close(away, away[..., :1, :1] * checks)
    assert away.abs().max() > 1e-3


@pytest.mark.parametrize(("k", "height"), [(1, 1), (3, 1), (4, 0.5), (5, 0), (8, 0)])
def test_waves_pass_up_to_the_new_highest_frequency(k, height):
    place = torch.arange(16, dtype=torch.float64)
    x = (place * (2 * math.pi * k / 16)).cos().expand(1, 1, 16, 16)
    y = create_pool("spectral", channels=1)(x)
    torch.testing.assert_close(y, height * x[..., ::2, ::2])


def test_known_values_of_an_impulse_and_a_step():
    x = torch.zeros(1, 1, 16, 16)
    x[..., 0] = 1  # an impulse of each row
    y = create_pool("spectral", channels=1)(x)[0, 0, 0]
    torch.testing.assert_close(torch.stack([y[0] * 2, y.sum() * 2]), torch.tensor([1.0, 1.0]))
    step = torch.cat([torch.zeros(16, 8), torch.ones(16, 8)], 1).view(1, 1, 16, 16)
    y = create_pool("spectral", channels=1)(step)
    assert y.min().item() == pytest.approx(-0.077, abs=5e-4)  # it rings
    assert y.max().item() == pytest.approx(1.077, abs=5e-4)


def test_a_shift_by_two_pixels_around_the_border_is_one_of_the_output():
    x, pool = torch.randn(2, 3, 16, 12, dtype=torch.float64), create_pool("spectral", channels=3)
    torch.testing.assert_close(pool(x.roll((2, 4), (2, 3))), pool(x).roll((1, 2), (2, 3)))


@given(x=maps(2, 2), down=st.integers(0, 11), right=st.integers(0, 11))
def test_without_the_highest_frequency_no_shift_changes_the_energy(x, down, right):
    pool = create_pool("spectral", channels=x.shape[1], nyquist="zero")
    before, after = (pool(one).square().sum((2, 3)) for one in (x, x.roll((down, right), (2, 3))))
    torch.testing.assert_close(before, after)


@pytest.mark.parametrize("nyquist", ["average", "energy", "real"])
def test_with_the_highest_frequency_shifts_change_the_energy(nyquist):
    x, pool = torch.randn(2, 3, 16, 16, dtype=torch.float64), create_pool("spectral", channels=3, nyquist=nyquist)
    before, after = (pool(one).square().sum((2, 3)) for one in (x, x.roll((1, 3), (2, 3))))
    assert not torch.allclose(before, after, rtol=1e-3)


@both_ways
@pytest.mark.parametrize("nyquist", spectral.NYQUIST)
@pytest.mark.parametrize("norm", spectral.NORMS)
def test_it_is_a_real_transform_whose_highest_row_and_column_are_mended(largest, nyquist, norm):
    x = torch.randn(2, 3, 12, 20, dtype=torch.float64)
    spectrum = torch.fft.rfft2(x, norm=norm)
    if nyquist == "real":  # frequency low-cut pooling: the middle of the whole spectrum, as it is
        middle = torch.fft.fftshift(torch.fft.fft2(x, norm=norm), (2, 3))[..., 3:9, 5:15]
        expected = torch.fft.ifft2(torch.fft.ifftshift(middle, (2, 3)), norm=norm).real
    else:
        weight = {"average": 0.5, "energy": 0.5**0.5, "zero": 0.0}[nyquist]
        highest = weight * (spectrum[..., 3:4, :6] + spectrum[..., -3:-2, :6])
        kept = torch.cat([spectrum[..., :3, :6], highest, spectrum[..., -2:, :6]], 2)
        kept[..., 5] *= 2 * weight  # the inverse drops its imaginary part, which is the average of the halves
        expected = torch.fft.irfft2(kept, s=(6, 10), norm=norm)
    with mock.patch.object(spectral, "LARGEST_MATRIX", largest):
        torch.testing.assert_close(create_pool("spectral", channels=3, nyquist=nyquist, norm=norm)(x), expected)


def test_all_treat_transposed_maps_alike_and_all_but_real_mirrored_ones():
    x = torch.randn(2, 3, 16, 16, dtype=torch.float64)

    def about_first(y):  # a mirror at pixel 0, which stays where it is
        return y.flip(3).roll(1, 3)

    alike = {}
    for nyquist in spectral.NYQUIST:
        pool = create_pool("spectral", channels=3, nyquist=nyquist)
        torch.testing.assert_close(pool(x.mT), pool(x).mT)
        alike[nyquist] = torch.allclose(pool(about_first(x)), about_first(pool(x)))
    assert alike == {"average": True, "zero": True, "energy": True, "real": False}


@pytest.mark.parametrize(("norm", "level"), [("forward", 1), ("ortho", 2), ("backward", 4)])
def test_the_level_of_a_map_changes_with_the_norm(norm, level):
    y = create_pool("spectral", channels=2, norm=norm)(torch.ones(1, 2, 8, 8))
    torch.testing.assert_close(y, torch.full((1, 2, 4, 4), float(level)))


@pytest.mark.parametrize("options", [{"ratio": 1}, {"output": (9, 6)}, {"ratio": 1.0, "norm": "backward"}], ids=str)
def test_a_map_that_keeps_its_size_stays_as_it_is(options):
    x = torch.randn(2, 3, 9, 6)
    torch.testing.assert_close(create_pool("spectral", channels=3, **options)(x), x)


@pytest.mark.parametrize(
    ("options", "expected"),
    [({}, (15, 8)), ({"ratio": 1.25}, (24, 13)), ({"ratio": 1 / 0.85}, (26, 14)), ({"output": 5}, (5, 5))],
    ids=str,
)
def test_any_output_size_is_served(options, expected):
    pool = create_pool("spectral", channels=2, **options)
    assert pool.output_size((31, 17)) == expected == tuple(pool(torch.randn(1, 2, 31, 17)).shape[2:])


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_a_large_map_keeps_its_type_and_memory_format(dtype, memory_format):
    x = torch.randn(1, 3, 130, 10).to(dtype, memory_format=memory_format)
    y = create_pool("spectral", channels=3)(x)
    assert (y.dtype, y.shape) == (dtype, (1, 3, 65, 5))
    assert y.is_contiguous(memory_format=memory_format)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"ratio": 0.5}, "ratio must be a number of at least 1, got 0.5"),
        ({"output": 0}, "output must be a side or two, whole numbers of at least 1, got 0"),
        ({"output": (4, 4, 4)}, "output must be a side or two"),
        ({"output": True}, "output must be a side or two"),
        ({"norm": "none"}, "norm must be 'forward', 'ortho' or 'backward', got 'none'"),
        ({"nyquist": "half"}, "nyquist must be 'average', 'zero', 'energy' or 'real', got 'half'"),
        ({"dropout_min": 1.5}, "dropout_min must be a number from 0 to 1, got 1.5"),
    ],
    ids=str,
)
def test_errors_name_the_option(options, words):
    with pytest.raises(ValueError, match=words) as caught:
        create_pool("spectral", channels=3, **options)
    assert "SpectralPool2d" in str(caught.value)


@pytest.mark.parametrize(("options", "size"), [({"output": (5, 3)}, (4, 8)), ({"ratio": 3.0}, (2, 9))], ids=str)
def test_a_map_smaller_than_the_output_is_refused(options, size):
    pool = create_pool("spectral", channels=3, **options)
    with pytest.raises(ValueError, match=f"a map of {size[0]}x{size[1]} pixels is smaller than its output"):
        pool.output_size(size)


def test_flops_are_those_of_two_matrix_products_or_two_transforms():
    pool = create_pool("spectral", channels=5)
    assert pool.flops((8, 6)) == 5 * 2 * (4 * 8 * 6 + 4 * 3 * 6)
    assert pool.flops((256, 256)) == 5 * 5 * (256**2 * 16 + 128**2 * 14)
