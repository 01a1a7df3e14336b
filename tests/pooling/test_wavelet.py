import pytest
import torch
from hypothesis import given

from poolbench import create_pool
from poolbench.pooling.parts.wavelets import FILTERS, ORTHOGONAL
from tests.pooling.reference import maps


@given(maps(2, 2))
def test_haars_low_band_is_twice_the_average(x):
    average = create_pool("average", channels=x.shape[1])(x)
    torch.testing.assert_close(create_pool("wavelet", channels=x.shape[1])(x), 2 * average)
    torch.testing.assert_close(create_pool("wavelet", channels=x.shape[1], normalise=True)(x), average)


@pytest.mark.parametrize("wavelet", ORTHOGONAL)
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


@pytest.mark.parametrize("wavelet", FILTERS)
@pytest.mark.parametrize("border", ["periodic", "zero"])
@given(x=maps(2, 2))
def test_every_filter_is_summed_pixel_by_pixel(border, wavelet, x):
    taps = FILTERS[wavelet]
    start = -((len(taps) - 1) // 2) if border == "zero" else 0
    height, width = (side // 2 for side in x.shape[2:])
    expected = torch.zeros(*x.shape[:2], height, width, dtype=torch.float64)
    for i in range(height):
        for j in range(width):
            for p, down in enumerate(taps):
                for q, across in enumerate(taps):
                    row, column = 2 * i + start + p, 2 * j + start + q
                    if border == "periodic":
                        row, column = row % (2 * height), column % (2 * width)
                    if 0 <= row < x.shape[2] and 0 <= column < x.shape[3]:
                        expected[..., i, j] += down * across * x[..., row, column]
    pool = create_pool("wavelet", channels=x.shape[1], wavelet=wavelet, border=border)
    torch.testing.assert_close(pool(x), expected)
    if border == "periodic":
        torch.testing.assert_close(pool._filtered(x), expected)  # where nobody may look at values
    kept = create_pool("wavelet", channels=x.shape[1], wavelet=wavelet, border=border, normalise=True)
    torch.testing.assert_close(kept(x), expected / 2)


@pytest.mark.parametrize("wavelet", ["haar", "db2", "db3", "db4", "db5", "db6", "bior3.3"])
def test_it_is_the_low_band_of_pywavelets(wavelet):
    pywt = pytest.importorskip("pywt")
    x = torch.randn(1, 1, 16, 16, dtype=torch.float64)
    band = torch.from_numpy(pywt.dwt2(x[0, 0].numpy(), wavelet, mode="periodization")[0])
    pool = create_pool("wavelet", channels=1, wavelet=wavelet)
    # Which pixel is called the first is another matter there.
    assert any(torch.allclose(pool(x.roll((shift, shift), (2, 3)))[0, 0], band) for shift in range(16))


@pytest.mark.parametrize(
    "wavelet", ["haar", "db2", "db3", "db4", "db5", "db6", "bior2.2", "bior3.3", "bior4.4", "bior5.5"]
)
@pytest.mark.parametrize("size", [(12, 12), (13, 9)])
def test_with_zeros_outside_it_is_the_band_of_wavecnets(size, wavelet):
    """Their matrices: the filter that puts together, every two pixels, cut by half of its length at both ends."""
    pywt = pytest.importorskip("pywt")
    taps = torch.tensor(pywt.Wavelet(wavelet).rec_lo, dtype=torch.float64)
    half = len(taps) // 2
    matrices = []
    for side in size:
        matrix = torch.zeros(side // 2, side + len(taps) - 2, dtype=torch.float64)
        for i in range(side // 2):
            matrix[i, 2 * i : 2 * i + len(taps)] = taps
        matrices.append(matrix[:, half - 1 : half - 1 + side])
    x = torch.randn(2, 3, *size, dtype=torch.float64)
    pool = create_pool("wavelet", channels=3, wavelet=wavelet.replace("bior", "ch"), border="zero")
    torch.testing.assert_close(pool(x), matrices[0] @ x @ matrices[1].T)


@pytest.mark.parametrize(("wavelet", "filter_size"), [("ch2.2", 3), ("ch3.3", 4)])
@given(x=maps(2, 2))
def test_cohens_splines_are_binomial_blurs(wavelet, filter_size, x):
    pool = create_pool("wavelet", channels=x.shape[1], wavelet=wavelet, border="zero", normalise=True)
    blur = create_pool("blur_average", channels=x.shape[1], filter_size=filter_size, border="zero")
    torch.testing.assert_close(pool(x), blur(x))


@pytest.mark.parametrize("options", [{"wavelet": "db6"}, {"wavelet": "ch5.5", "border": "zero"}], ids=str)
def test_the_gradients_are_right(options):
    pool = create_pool("wavelet", channels=2, **options)
    x = torch.randn(1, 2, 6, 7, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(pool, x)


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
        ({"wavelet": "db7"}, "wavelet must be 'haar', 'db2', .* or 'ch5.5', got 'db7'"),
        ({"border": "reflect"}, "border must be 'periodic' or 'zero', got 'reflect'"),
        ({"levels": 2, "wavelet": "bior3.3"}, "levels must be 1 unless .*, got 2 with wavelet='bior3.3'"),
        ({"levels": 2, "border": "zero"}, "levels must be 1 unless .*, got 2 with wavelet='haar', border='zero'"),
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
    # Six taps along the rows of two values and along the columns of one.
    assert create_pool("wavelet", channels=5, wavelet="db3").flops((8, 6)) == 5 * 4 * 3 * 2 * 3 * 6
