import math

import pytest

from poolbench.pooling.parts.wavelets import BIORTHOGONAL, FILTERS, ORTHOGONAL


def against(one, other, shift):
    """The sum of products of two filters, the second moved by ``shift``."""
    return sum(tap * other[i - shift] for i, tap in enumerate(one) if 0 <= i - shift < len(other))


@pytest.mark.parametrize("name", FILTERS)
def test_each_has_the_sum_root_two_and_none_at_the_highest_frequency(name):
    taps = FILTERS[name]
    assert sum(taps) == pytest.approx(math.sqrt(2), abs=1e-10)
    assert sum((-1) ** i * tap for i, tap in enumerate(taps)) == pytest.approx(0, abs=1e-10)


@pytest.mark.parametrize("name", ORTHOGONAL)
def test_daubechies_filters_are_orthogonal_to_themselves_two_pixels_on(name):
    taps = ORTHOGONAL[name]
    for shift in range(0, len(taps), 2):
        assert against(taps, taps, shift) == pytest.approx(float(shift == 0), abs=1e-10)


@pytest.mark.parametrize("name", ORTHOGONAL)
def test_daubechies_filters_have_half_as_many_vanishing_moments_as_taps(name):
    taps = ORTHOGONAL[name]
    moments = [sum((-1) ** i * i**power * tap for i, tap in enumerate(taps)) for power in range(len(taps) // 2 + 1)]
    assert moments[:-1] == pytest.approx([0] * (len(taps) // 2), abs=1e-6)
    assert abs(moments[-1]) > 0.1


@pytest.mark.parametrize("name", BIORTHOGONAL)
def test_cohens_filters_are_symmetric(name):
    assert BIORTHOGONAL[name] == BIORTHOGONAL[name][::-1]


def test_what_takes_apart_and_what_puts_together_are_orthogonal_two_pixels_on():
    apart, together = BIORTHOGONAL["bior3.3"], BIORTHOGONAL["ch3.3"]
    for shift in range(-4, 5, 2):
        assert against(apart, together, 2 + shift) == pytest.approx(float(shift == 0), abs=1e-12)


def test_they_are_those_of_pywavelets():
    pywt = pytest.importorskip("pywt")
    for name, taps in FILTERS.items():
        wavelet = pywt.Wavelet(name.replace("ch", "bior"))
        known = wavelet.rec_lo if name.startswith("ch") else wavelet.dec_lo[::-1]
        assert taps == pytest.approx([tap for tap in known if tap], abs=1e-12)
