import pytest
import torch
from hypothesis import given

from poolbench import create_pool
from tests.pooling.reference import maps


@given(maps(2, 2))
def test_haars_low_band_is_twice_the_average(x):
    average = create_pool("average", channels=x.shape[1])(x)
    torch.testing.assert_close(create_pool("wavelet", channels=x.shape[1])(x), 2 * average)
    torch.testing.assert_close(create_pool("wavelet", channels=x.shape[1], normalise=True)(x), average)


@pytest.mark.parametrize("wavelet", ["haar", "db2"])
@given(x=maps(4, 4))
def test_the_papers_two_levels_give_the_first_low_band_again(wavelet, x):
    x = x[..., : x.shape[-2] // 4 * 4, : x.shape[-1] // 4 * 4]
    pools = [create_pool("wavelet", channels=x.shape[1], wavelet=wavelet, levels=levels) for levels in (1, 2)]
    torch.testing.assert_close(pools[1](x), pools[0](x))


@given(maps(4, 2))
def test_the_filter_slides_over_the_periodic_map(x):
    x = x[..., : x.shape[-2] // 2 * 2, : x.shape[-1] // 2 * 2]
    root = 3**0.5
    taps = torch.tensor([1 + root, 3 + root, 3 - root, 1 - root], dtype=torch.float64) / (4 * 2**0.5)
    assert taps.square().sum().item() == pytest.approx(1)
    assert (taps[:2] * taps[2:]).sum().item() == pytest.approx(0)  # orthogonal to itself two pixels on
    height, width = x.shape[-2:]
    expected = torch.zeros(*x.shape[:2], height // 2, width // 2, dtype=torch.float64)
    for i in range(height // 2):
        for j in range(width // 2):
            for p, down in enumerate(taps):
                for q, across in enumerate(taps):
                    expected[..., i, j] += down * across * x[..., (2 * i + p) % height, (2 * j + q) % width]
    torch.testing.assert_close(create_pool("wavelet", channels=x.shape[1], wavelet="db2")(x), expected)


def test_the_known_values_of_one_window():
    x = torch.tensor([[[[1.0, 2.0], [3.0, 4.0]]]])
    assert create_pool("wavelet", channels=1)(x).item() == pytest.approx(5.0)
    assert create_pool("wavelet", channels=1, normalise=True)(x).item() == pytest.approx(2.5)


def test_db2_keeps_a_slope_where_it_does_not_wrap():
    x = torch.arange(16.0).expand(1, 1, 16, 16)
    y = create_pool("wavelet", channels=1, wavelet="db2", normalise=True)(x)[0, 0, 0, :7]
    torch.testing.assert_close(y.diff(), torch.full((6,), 2.0))  # two vanishing moments


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"wavelet": "db3"}, "wavelet must be 'haar' or 'db2', got 'db3'"),
        ({"levels": 3}, "levels must be 1 or 2, got 3"),
        ({"normalise": 1}, "normalise must be true or false, got 1"),
    ],
    ids=str,
)
def test_errors_name_the_option(options, words):
    with pytest.raises(ValueError, match=words):
        create_pool("wavelet", channels=3, **options)


def test_it_has_no_parameters_and_costs_little():
    pool = create_pool("wavelet", channels=5)
    assert list(pool.parameters()) == []
    assert pool.flops((8, 6)) == 5 * 4 * 3 * 5
