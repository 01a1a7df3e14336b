import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

from poolbench import create_pool
from tests.pooling.blurring import blurred
from tests.pooling.reference import maps

sizes = pytest.mark.parametrize("filter_size", range(1, 8))
borders = pytest.mark.parametrize("border", ["reflect", "replicate", "zero"])


@borders
@given(x=maps(3, 3), filter_size=st.integers(1, 7), stride=st.integers(1, 3))
def test_it_is_the_filter_of_the_definition(border, x, filter_size, stride):
    pool = create_pool("blur_average", channels=x.shape[1], filter_size=filter_size, stride=stride, border=border)
    output = (x.shape[2] // stride, x.shape[3] // stride)
    torch.testing.assert_close(pool(x), blurred(x, filter_size, stride, output, border))


@borders
@sizes
@pytest.mark.parametrize("size", [(8, 8), (16, 9), (11, 12)])
def test_it_gives_what_the_authors_package_gives(filter_size, border, size):
    package = pytest.importorskip("antialiased_cnns")
    x = torch.randn(2, 3, *size)
    theirs = package.BlurPool(3, filt_size=filter_size, pad_type=border)(x)  # on odd sides one pixel more
    y = create_pool("blur_average", channels=3, filter_size=filter_size, border=border)(x)
    torch.testing.assert_close(y, theirs[..., : size[0] // 2, : size[1] // 2])


@pytest.mark.parametrize("filter_size", [3, 5, 7])  # at even sizes it starts a pixel earlier
@pytest.mark.parametrize("border", ["reflect", "replicate"])
@pytest.mark.parametrize("size", [(8, 8), (16, 9)])
def test_it_gives_what_timm_gives(filter_size, border, size):
    timm = pytest.importorskip("timm")
    x = torch.randn(2, 3, *size)
    theirs = timm.layers.BlurPool2d(3, filt_size=filter_size, pad_mode=border)(x)
    y = create_pool("blur_average", channels=3, filter_size=filter_size, border=border)(x)
    torch.testing.assert_close(y, theirs[..., : size[0] // 2, : size[1] // 2])


def test_one_tap_subsamples_and_two_average():
    x = torch.randn(2, 3, 9, 8)
    one, two = (create_pool("blur_average", channels=3, filter_size=n)(x) for n in (1, 2))
    torch.testing.assert_close(one, create_pool("subsample", channels=3)(x))
    torch.testing.assert_close(two, F.avg_pool2d(x, 2))


@sizes
def test_the_frequency_that_aliases_to_a_constant_is_taken_out(filter_size):
    x = (-1.0) ** torch.arange(16).expand(1, 1, 16, 16)  # reflected, it goes on alternating
    y = create_pool("blur_average", channels=1, filter_size=filter_size)(x)
    torch.testing.assert_close(y, torch.full_like(y, 1.0 if filter_size == 1 else 0.0))


@sizes
@pytest.mark.parametrize("border", ["reflect", "replicate"])
def test_a_constant_is_kept_up_to_the_border(filter_size, border):
    x = torch.full((1, 2, 7, 4), 3.0)
    y = create_pool("blur_average", channels=2, filter_size=filter_size, border=border)(x)
    torch.testing.assert_close(y, torch.full((1, 2, 3, 2), 3.0))


@sizes
def test_a_mirror_image_is_treated_alike_at_even_sizes(filter_size):
    pool, x = create_pool("blur_average", channels=2, filter_size=filter_size), torch.randn(1, 2, 16, 16)
    assert torch.allclose(pool(x.flip(3)), pool(x).flip(3), atol=1e-6) == (filter_size % 2 == 0) == pool.mirrors


@pytest.mark.parametrize("size", [(2, 2), (3, 2), (2, 16)])
def test_a_map_too_small_to_be_reflected_repeats_its_outermost_pixels(size):
    x = torch.randn(1, 2, *size)
    y, repeated = (
        create_pool("blur_average", channels=2, filter_size=7, border=border)(x[..., :3])
        for border in ("reflect", "replicate")
    )
    torch.testing.assert_close(y, repeated)
    large = torch.randn(1, 2, 16, 16)
    assert not torch.allclose(
        *(create_pool("blur_average", channels=2, filter_size=7, border=b)(large) for b in ("reflect", "replicate"))
    )


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"filter_size": 8}, "filter_size must be a whole number from 1 to 7, or two of them .*, got 8"),
        ({"filter_size": 0}, "filter_size must be a whole number from 1 to 7, or two of them .*, got 0"),
        ({"border": "zeros"}, "border must be 'reflect', 'replicate' or 'zero', got 'zeros'"),
        ({"stride": 0}, "stride must be a whole number of at least 1, or two of them .*, got 0"),
    ],
    ids=str,
)
def test_errors_name_the_option(options, words):
    with pytest.raises(ValueError, match=words) as caught:
        create_pool("blur_average", channels=3, **options)
    assert "BlurAveragePool2d" in str(caught.value)


def test_flops_are_those_of_columns_at_the_new_rate_and_rows_at_the_old():
    # 8 x 3 values of 4 taps along the rows, of which 4 x 3 values of 4 taps are made; two operations a tap.
    assert create_pool("blur_average", channels=5).flops((8, 6)) == 5 * (8 * 3 + 4 * 3) * 4 * 2
    assert create_pool("blur_average", channels=5, filter_size=1).flops((8, 6)) == 0
