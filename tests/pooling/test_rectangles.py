"""Windows, steps and borders that differ in rows and columns. The definitions of single pools, which draw rectangles
too, are with each pool; here is what all that take them have in common."""

import inspect

import pytest
import torch
import torch.nn.functional as F

from poolbench import create_pool
from poolbench.pooling import POOLS
from poolbench.pooling.base import area, joined, pair

TAKING = [name for name in POOLS.table if POOLS.find(name).rectangles]
SIDES = {"kernel_size": (3, 2), "stride": (2, 1), "padding": (1, 0), "filter_size": (3, 2), "smoothing": (3, 1)}
ODD = {"blur_conv": {"kernel_size": (3, 1)}, "s3": {"grid_size": (6, 4)}, "depthwise_conv": {"kernel_size": (3, 1)}}
# The cells of a window in an order of their own, so that a turned map needs weights in another order.
IN_ORDER = ("carafe", "space_to_depth", "patch_merge")
# Their operations for one value depend on the number of cells alone.
BY_AREA = (
    "max", "average", "lp", "median", "power_mean", "log_sum_exp", "stochastic", "rank", "mixed", "gated", "tree",
    "leap", "ordinal", "soft", "ada", "dpp", "fuzzy",
)  # fmt: skip

AXES = ("batch", "height", "width")

every = pytest.mark.parametrize("name", TAKING)


def options_of(name, turned=False):
    """Of a pool, for rows and columns that differ."""
    taken = inspect.signature(POOLS.find(name)).parameters
    options = {option: value for option, value in {**SIDES, **ODD.get(name, {})}.items() if option in taken}
    return {option: value[::-1] if turned else value for option, value in options.items()}


def made(name, channels=2, **options):
    """A pool in float64, in evaluation mode, whose weights are not those that it starts with."""
    torch.manual_seed(2)
    pool = create_pool(name, channels=channels, **options).double().eval()
    with torch.no_grad():
        for value in pool.parameters():
            value.add_(0.3 * torch.rand_like(value))
    return pool


def map_of(*shape):
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(7))


@pytest.mark.parametrize(
    ("name", "theirs", "more"),
    [
        ("max", lambda x, **o: F.max_pool2d(x, **o), {}),
        ("average", lambda x, **o: F.avg_pool2d(x, **o, count_include_pad=False), {}),
        ("lp", lambda x, kernel_size, stride, padding: F.lp_pool2d(x, 3.0, kernel_size, stride), {"p": 3.0}),
    ],
)
def test_it_is_torchs_own(name, theirs, more):
    padding = (0, 0) if name == "lp" else (1, 0)  # which torch's has not
    size = (10, 9) if name == "lp" else (8, 9)
    options = {"kernel_size": (2, 3) if name == "lp" else (4, 3), "stride": (2, 3), "padding": padding}
    x = map_of(2, 3, *size)
    norm = {"norm": "sum"} if name == "lp" else {}
    y = create_pool(name, channels=3, **options, **more, **norm)(x.abs())
    torch.testing.assert_close(y, theirs(x.abs(), **options))


@every
def test_each_side_shrinks_by_its_own_step(name):
    pool, by = made(name, **options_of(name)), (2, 1) if name != "s3" else (3, 2)
    assert pool.ratio == by
    for size in ((6, 4), (7, 9), (12, 5)):
        expected = (size[0] // by[0], size[1] // by[1])
        assert pool.output_size(size) == expected
        assert pool(map_of(2, 2, *size)).shape == (2, 2, *expected)


@pytest.mark.parametrize("name", [name for name in TAKING if name not in IN_ORDER])
def test_a_turned_map_through_a_turned_window_gives_the_turned_output(name):
    pool, turned = made(name, **options_of(name)), made(name, **options_of(name, turned=True))
    state = {key: value.mT if value.dim() == 4 else value for key, value in pool.state_dict().items()}
    turned.load_state_dict(state)
    x = map_of(2, 2, 7, 9)
    torch.testing.assert_close(turned(x.mT.contiguous()), pool(x).mT)


@every
def test_its_gradient_is_the_derivative(name):
    pool, x = made(name, **options_of(name)), map_of(1, 2, 6, 5).requires_grad_()
    weights = [value for value in pool.parameters() if value.requires_grad]
    assert torch.autograd.gradcheck(lambda x, *_: pool(x), (x, *weights), fast_mode=True)


@every
def test_two_equal_sides_are_one(name):
    taken = inspect.signature(POOLS.find(name)).parameters
    one = {option: value for option, value in {"kernel_size": 3, "stride": 2, "padding": 1}.items() if option in taken}
    a, b = made(name, **one), made(name, **{option: [value, value] for option, value in one.items()})
    assert repr(a) == repr(b)
    assert a.ratio == b.ratio
    x = map_of(2, 2, 9, 8)
    assert torch.equal(a(x), b(x))


@pytest.mark.parametrize("name", BY_AREA)
def test_the_operations_of_a_window_follow_from_its_cells(name):
    square = create_pool(name, channels=3, kernel_size=4, stride=4).flops((8, 8))
    flat = create_pool(name, channels=3, kernel_size=(2, 8), stride=(2, 8)).flops((4, 16))
    assert flat == square == 3 * 4 * create_pool(name, channels=3, kernel_size=(16, 1)).flops_per_window()


def test_operations_where_steps_count_too():
    assert create_pool("strided_conv", 4, kernel_size=(3, 1), norm=False).flops((8, 8)) == 4 * 16 * (2 * 3 * 4 + 2)
    assert create_pool("space_to_depth", 4, stride=(2, 1)).flops((8, 8)) == 4 * 32 * (2 * 2 * 4 + 3)
    # Along the columns at every row of the map, down the rows for what is left.
    assert create_pool("blur_average", 1, stride=(2, 1), filter_size=(3, 5)).flops_per_window() == 2 * 3 + 2 * 5 * 2
    assert create_pool("blur_average", 1, stride=(2, 1), filter_size=(3, 1)).flops_per_window() == 2 * 3
    assert create_pool("attention", 4, kernel_size=2, stride=(2, 1)).flops_per_window() == round((16 + 18) / 4) + 7


@pytest.mark.parametrize(
    ("name", "options", "words"),
    [
        ("max", {"kernel_size": (3, 0)}, r"kernel_size must be a whole number of at least 1, or two of them \(rows, c"),
        ("max", {"kernel_size": (3, 2, 1)}, r"kernel_size must be .*, got \(3, 2, 1\)"),
        ("max", {"kernel_size": (3, 2.0)}, r"kernel_size must be .*, got \(3, 2.0\)"),
        ("max", {"kernel_size": "32"}, "kernel_size must be .*, got '32'"),
        ("max", {"stride": (2, True)}, r"stride must be .*, got \(2, True\)"),
        ("max", {"kernel_size": 3, "padding": (1, 2)}, r"padding must be a whole number from 0 to 1 .*, got \(1, 2\)"),
        ("max", {"kernel_size": (3, 1), "padding": 1}, r"at most half of kernel_size \(3, 1\) .*, got 1"),
        ("overlapping", {"kernel_size": (3, 2), "stride": 3}, "kernel_size must be above stride 3"),
        ("overlapping", {"kernel_size": (5, 2), "stride": 3}, "kernel_size must be above stride 3"),
        ("blur_conv", {"kernel_size": (3, 2)}, r"kernel_size must be odd.*got \(3, 2\)"),
        ("blur_max", {"filter_size": (3, 8)}, r"filter_size must be a whole number from 1 to 7.*got \(3, 8\)"),
        ("regularized", {"smoothing": (3, 2)}, r"smoothing must be an odd number of windows, got \(3, 2\)"),
        ("s3", {"kernel_size": (3, 2), "grid_size": (6, 3)}, r"grid_size must be a multiple of kernel_size \(3, 2\)"),
        ("lift", {"kernel_size": (3, 5)}, "takes one number here, because one filter serves rows and columns"),
        ("diff_stride", {"stride": [2, 1]}, r"takes one number here, because both .* one start\), got \[2, 1\]"),
    ],
)
def test_what_is_not_allowed_is_named(name, options, words):
    with pytest.raises(ValueError, match=f"pool {POOLS.find(name).__name__}: .*{words}"):
        create_pool(name, channels=2, **options)


def test_a_map_that_is_too_small_along_one_side_is_named():
    pool = create_pool("soft", channels=2, kernel_size=(1, 6), stride=(3, 2))
    with pytest.raises(ValueError, match=r"a map of 2x8 pixels is smaller than stride \(3, 2\)"):
        pool(torch.zeros(1, 2, 2, 8))
    with pytest.raises(ValueError, match=r"kernel_size \(1, 6\) is larger than the map of 9x4 pixels"):
        pool(torch.zeros(1, 2, 9, 4))
    assert pool(torch.zeros(1, 2, 3, 5)).shape == (1, 2, 1, 2)


def test_a_pool_that_takes_one_number_says_why():
    refusing = [name for name in POOLS.table if name not in TAKING]
    reasons = {name: POOLS.find(name).why_square for name in refusing}
    assert "its class does not say" not in " ".join(reasons.values())
    assert set(refusing) == {
        "fractional_max", "spectral", "wavelet", "lift", "polyphase", "lps", "tips", "diff_stride", "hwd", "adown",
        "average_conv", "max_conv",
    }  # fmt: skip


@pytest.mark.parametrize("name", ["max", "average", "soft", "leap", "strided_conv", "blur_max", "s3"])
def test_it_is_exported_with_open_sizes(name):
    pool = create_pool(name, channels=2, **options_of(name)).eval()
    batch, height, width = (torch.export.Dim(axis, min=1 if axis == "batch" else 8, max=64) for axis in AXES)
    options = {"strict": False, "prefer_deferred_runtime_asserts_over_guards": True}  # as torch.onnx does by itself
    shapes = ({0: batch, 2: height, 3: width},)
    program = torch.export.export(pool, (torch.randn(2, 2, 9, 12),), dynamic_shapes=shapes, **options)
    for shape in ((3, 2, 8, 17), (1, 2, 10, 9)):
        x = torch.randn(shape)
        torch.testing.assert_close(program.module()(x), pool(x))


def test_sides_are_kept_as_one_number_where_they_agree():
    assert [joined(2, 2), joined(2, 3)] == [2, (2, 3)]
    assert [pair(2), pair((2, 3)), area(3), area((2, 3))] == [(2, 2), (2, 3), 9, 6]
