import pytest
import torch
import torch.nn.functional as F
from hypothesis import assume, given
from hypothesis import strategies as st
from torch import nn

from poolbench import create_pool
from tests.pooling.blurring import blurred
from tests.pooling.reference import by_loop, maps


@pytest.mark.parametrize("border", ["reflect", "replicate", "zero"])
@given(x=maps(3, 3), kernel_size=st.integers(1, 4), filter_size=st.integers(1, 7), stride=st.integers(1, 3))
def test_it_is_the_maximum_at_every_pixel_then_the_filter(border, x, kernel_size, filter_size, stride):
    padding = (kernel_size - 1) // 2
    full = [side + 2 * padding - kernel_size + 1 for side in x.shape[2:]]  # windows that lie in the padded map
    assume(min(full) > 0)
    maxima = by_loop(x, lambda cells: cells.amax(-1), kernel_size, 1, padding)[..., : full[0], : full[1]]
    options = {"kernel_size": kernel_size, "stride": stride, "filter_size": filter_size, "border": border}
    y = create_pool("blur_max", channels=x.shape[1], **options)(x)
    output = (x.shape[2] // stride, x.shape[3] // stride)
    torch.testing.assert_close(y, blurred(maxima, filter_size, stride, output, border))


@pytest.mark.parametrize("border", ["reflect", "replicate", "zero"])
@pytest.mark.parametrize("filter_size", range(1, 8))
@pytest.mark.parametrize("size", [(10, 10), (16, 11)])
def test_it_gives_what_the_authors_package_gives(filter_size, border, size):
    package = pytest.importorskip("antialiased_cnns")
    x = torch.randn(2, 3, *size)
    theirs = nn.Sequential(nn.MaxPool2d(2, 1), package.BlurPool(3, filt_size=filter_size, pad_type=border))(x)
    y = create_pool("blur_max", channels=3, filter_size=filter_size, border=border)(x)
    torch.testing.assert_close(y, theirs)


@pytest.mark.parametrize("filter_size", [3, 5, 7])  # at even sizes it starts a pixel earlier
@pytest.mark.parametrize("border", ["reflect", "replicate"])
def test_it_gives_what_timm_gives(filter_size, border):
    timm = pytest.importorskip("timm")
    x = torch.randn(2, 3, 10, 11)
    blur = timm.layers.BlurPool2d(3, filt_size=filter_size, pad_mode=border)
    y = create_pool("blur_max", channels=3, filter_size=filter_size, border=border)(x)
    torch.testing.assert_close(y, nn.Sequential(nn.MaxPool2d(2, 1), blur)(x))


@pytest.mark.parametrize("size", [(8, 8), (9, 7), (2, 2)])
def test_one_tap_is_max_pooling_exactly(size):
    x = torch.randn(2, 3, *size)
    assert torch.equal(create_pool("blur_max", channels=3, filter_size=1)(x), F.max_pool2d(x, 2))


def test_a_shift_changes_less_than_with_max_pooling():
    """The paper's signal 0 0 1 1 ...: maxima at every second pixel are 0 1 0 1, and 1 1 1 1 after a shift by one."""
    signal = torch.tensor([0.0, 0.0, 1.0, 1.0]).repeat(6)
    x = torch.stack([signal, signal.roll(-1)]).view(2, 1, 1, 24).expand(-1, -1, 24, -1)
    plain, blur = (create_pool("blur_max", channels=1, filter_size=n)(x)[:, 0, 5, 4:8] for n in (1, 3))
    assert plain.tolist() == [[0, 1, 0, 1], [1, 1, 1, 1]]
    assert blur.tolist() == [[0.5, 1, 0.5, 1], [0.75, 0.75, 0.75, 0.75]]


@pytest.mark.parametrize("filter_size", range(1, 8))
def test_a_mirror_image_is_treated_alike_at_odd_sizes(filter_size):
    pool, x = create_pool("blur_max", channels=2, filter_size=filter_size), torch.randn(1, 2, 16, 16)
    assert torch.allclose(pool(x.flip(3)), pool(x).flip(3), atol=1e-6) == (filter_size % 2 == 1) == pool.mirrors


@pytest.mark.parametrize("filter_size", range(1, 8))
def test_of_the_smallest_map_its_maximum_is_left(filter_size):
    x = torch.randn(2, 3, 2, 2)
    y = create_pool("blur_max", channels=3, filter_size=filter_size)(x)
    torch.testing.assert_close(y, x.amax((2, 3), keepdim=True))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"filter_size": 8}, "filter_size must be a whole number from 1 to 7, or two of them .*, got 8"),
        ({"border": "same"}, "border must be 'reflect', 'replicate' or 'zero', got 'same'"),
        ({"stride": None}, "stride must be a whole number of at least 1, or two of them .*, got None"),
        ({"kernel_size": 0}, "kernel_size must be a whole number of at least 1, or two of them .*, got 0"),
    ],
    ids=str,
)
def test_errors_name_the_option(options, words):
    with pytest.raises(ValueError, match=words) as caught:
        create_pool("blur_max", channels=3, **options)
    assert "BlurMaxPool2d" in str(caught.value)


def test_flops_are_comparisons_at_every_pixel_and_the_filter():
    # Four windows of 3 comparisons for a value; 3 taps along three rows' worth of values.
    assert create_pool("blur_max", channels=5).flops((8, 6)) == 5 * 4 * 3 * (4 * 3 + 2 * 3 * 3)
    assert create_pool("blur_max", channels=5, filter_size=1).flops((8, 6)) == 5 * 4 * 3 * 3
