"""Pools of maps ``(N, C, L)``: what the 2-D ones do to a map of one row."""

import copy
import inspect
import pickle

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import poolbench
from poolbench import create_pool
from poolbench.pooling import POOLS
from poolbench.pooling.base import Pool
from poolbench.pooling.max import MaxPool2d

TAKING = [name for name in POOLS.table if POOLS.find(name).rectangles]
ALONG_ROW = ("kernel_size", "stride", "filter_size", "grid_size", "smoothing")

every = pytest.mark.parametrize("name", TAKING)


class Own(nn.Module):
    """A stranger's, which takes ``dims`` itself."""

    def __init__(self, channels, dims=2):
        super().__init__()
        self.dims = dims


class TwoRows(MaxPool2d):
    """Derived from one of ours, with a window of its own."""

    def __init__(self, channels):
        super().__init__(channels, kernel_size=2)


def in_two(name, **options):
    """The 2-D pool with windows of one row."""
    own = {}
    for option, one in inspect.signature(POOLS.find(name)).parameters.items():
        value = options.get(option, one.default)
        if option in ALONG_ROW and value is not None:
            own[option] = (1, value)
        elif option == "padding":
            own[option] = (0, value)
    return create_pool(name, channels=4, **{**options, **own})


@every
@pytest.mark.parametrize("training", [False, True])
def test_it_is_the_pool_of_one_row(name, training):
    torch.manual_seed(3)
    pool, wide = create_pool(name, channels=4, dims=1).train(training), in_two(name).train(training)
    with torch.no_grad():
        for key, value in wide.state_dict(keep_vars=True).items():
            if value.is_floating_point() and key.rpartition(".")[2] not in ("running_var", "drawn", "drawn_max"):
                value.add_(0.3 * torch.rand_like(value))
    state = {key: value.clone() for key, value in wide.state_dict().items()}
    assert list(pool.state_dict()) == list(state)
    for key, value in pool.state_dict().items():
        if value.shape != state[key].shape:  # filters of three rows, of which one meets the map
            state[key] = state[key][:, :, 1:2]
    pool.load_state_dict(state)
    x = torch.randn(2, 4, 13)
    torch.manual_seed(4)
    y = pool(x)
    torch.manual_seed(4)
    torch.testing.assert_close(y, wide(x.unsqueeze(2)).squeeze(2))
    assert y.shape == (2, 4, 6)
    assert pool.output_size((1, 13)) == (1, 6)
    assert pool.ratio == 2


@pytest.mark.parametrize("padding", [0, 1])
def test_it_is_torchs_own(padding):
    x = torch.randn(2, 3, 10, dtype=torch.float64)
    options = {"kernel_size": 4 if padding else 2, "stride": 2, "padding": padding}
    torch.testing.assert_close(create_pool("max", 3, dims=1, **options)(x), F.max_pool1d(x, **options))
    average = F.avg_pool1d(x, **options, count_include_pad=False)
    torch.testing.assert_close(create_pool("average", 3, dims=1, **options)(x), average)
    if not padding:
        y = create_pool("lp", 3, dims=1, norm="sum", p=3.0)(x.abs())
        torch.testing.assert_close(y, F.lp_pool1d(x.abs(), 3.0, 2, 2))


def test_a_linear_one_is_a_convolution_of_one_dimension():
    conv = nn.Conv1d(4, 4, 3, stride=2, padding=1)
    pool = create_pool("strided_conv", 4, dims=1, norm=False, activation=False)
    pool.load_state_dict({"conv.weight": conv.weight.unsqueeze(2), "conv.bias": conv.bias})
    x = torch.randn(2, 4, 12)
    torch.testing.assert_close(pool(x), conv(x))


@every
def test_no_weight_sees_the_border_alone(name):
    """A filter of three rows would have two for zeros: weights that never learn, and operations that need not be."""
    pool = create_pool(name, channels=4, dims=1)
    for one in pool.modules():
        if isinstance(one, nn.Conv2d):
            assert one.kernel_size[0] == 1
            assert one.weight.shape[2] == 1
    more = {"attention": {"score_kernel_size": 3}, "dpp": {"full": True}, "lip": {"logits": "bottleneck", "width": 3}}
    pool = create_pool(name, channels=4, dims=1, **more.get(name, {}))
    x = torch.randn(3, 4, 16, requires_grad=True)
    for _ in range(3):  # the last layers of lip and dpp start where those before them get no gradient
        pool.zero_grad()
        pool(x).pow(3).sum().backward()
        with torch.no_grad():
            for value in pool.parameters():
                value.sub_(0.01 * value.grad.sign())
    for key, value in pool.named_parameters():
        if "conv" in key or "score" in key or "surroundings" in key:
            assert value.grad.abs().flatten(1).amax(0).min() > 0 if value.dim() > 1 else value.grad.any(), key


def test_the_weights_of_importance_are_those_of_three_in_a_row():
    assert sum(p.numel() for p in create_pool("lip", 8, dims=1).parameters()) == 8 * 8 * 3 + 16
    rows = {dims: create_pool("lip", 8, dims=dims).flops((1 if dims == 1 else 16, 16)) for dims in (1, 2)}
    assert rows[1] < rows[2] / 16


@pytest.mark.parametrize("name", ["max", "soft", "lip", "blur_max"])
def test_who_looks_into_it_sees_the_same(name):
    pool = create_pool(name, channels=4, dims=1).eval()
    x = torch.randn(3, 4, 12)
    expected = pool(x)
    for one in (copy.deepcopy(pool), pickle.loads(pickle.dumps(pool))):
        assert torch.equal(one(x), expected)
    net = nn.Sequential(nn.Conv1d(2, 4, 3), pool)
    maps = torch.randn(2, 2, 14)
    torch.testing.assert_close(torch.fx.symbolic_trace(net)(maps), net(maps))
    torch._dynamo.reset()
    torch.testing.assert_close(torch.compile(pool, backend="eager", fullgraph=True)(x), expected)
    length = torch.export.Dim("length", min=8, max=64)
    options = {"strict": False, "prefer_deferred_runtime_asserts_over_guards": True}  # as torch.onnx does by itself
    program = torch.export.export(pool, (torch.randn(2, 4, 12),), dynamic_shapes=({2: length},), **options)
    other = torch.randn(2, 4, 17)
    torch.testing.assert_close(program.module()(other), pool(other))


@every
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_it_takes_half_precision(name, dtype):
    pool = create_pool(name, channels=4, dims=1).eval()
    x = torch.rand(2, 4, 12).to(dtype)
    y = copy.deepcopy(pool).to(dtype)(x)
    assert y.dtype == dtype
    torch.testing.assert_close(y.float(), pool(x.float()), rtol=0.05, atol=0.05)


def test_no_sequences_give_no_sequences():
    x = torch.zeros(0, 4, 9, requires_grad=True)
    y = create_pool("lip", channels=4, dims=1)(x)
    y.sum().backward()
    assert (y.shape, x.grad.shape) == ((0, 4, 4), (0, 4, 9))


@pytest.mark.parametrize(
    ("x", "words"),
    [
        (torch.zeros(2, 4, 1, 8), r"it takes maps \(N, C, L\) of 3 dimensions, got \(2, 4, 1, 8\)"),
        (torch.zeros(4, 8), r"it takes maps \(N, C, L\) of 3 dimensions, got \(4, 8\)"),
        (torch.zeros(2, 3, 8), r"maps of 4 channels, got 3: \(2, 3, 8\)"),
        (torch.zeros(2, 4, 1), "a map of length 1 is smaller than stride 2: nothing would be left"),
        (torch.zeros(2, 4, 3), "kernel_size 5 is larger than the map of length 3"),
        ([0.0], r"it takes a tensor \(N, C, L\), got list"),
    ],
    ids=str,
)
def test_what_is_no_map_for_it_is_named(x, words):
    with pytest.raises(ValueError, match=f"pool MaxPool2d: .*{words}"):
        create_pool("max", channels=4, dims=1, kernel_size=5)(x)


@pytest.mark.parametrize(
    ("name", "options", "words"),
    [
        ("max", {"dims": 3}, "pool 'max': dims must be 1 or 2, got 3"),
        ("max", {"dims": True}, "pool 'max': dims must be 1 or 2, got True"),
        ("max", {"dims": None}, "pool 'max': dims must be 1 or 2, got None"),
        (
            "max",
            {"kernel_size": (1, 3)},
            r"kernel_size must be a whole number of at least 1, with dims=1, got \(1, 3\)",
        ),
        ("max", {"stride": 0}, "stride must be a whole number of at least 1, with dims=1, got 0"),
        ("max", {"kernel_size": 3, "padding": 2}, r"padding must be .* from 0 to 1 \(half of kernel_size 3\), got 2"),
        ("max", {"padding": 2}, r"padding must be .* from 0 to 1 \(half of kernel_size 2\), got 2"),
        ("max", {"kernel": 3}, "pool 'max' has no option 'kernel'"),
        ("wavelet", {}, "pool 'wavelet': dims must be 2, got 1, because its transform halves rows and columns"),
        ("lift", {}, "pool 'lift': dims must be 2, got 1, because one filter serves rows and columns"),
        (nn.MaxPool2d, {"kernel_size": 2}, "pool 'MaxPool2d': dims must be 2, got 1: .* must take dims itself"),
        ("torch.nn.MaxPool2d", {"kernel_size": 2}, "'torch.nn.MaxPool2d': dims must be 2, got 1: .* dims itself"),
        ("custom", {"_target_": "torch.nn.AvgPool2d"}, "pool 'custom': dims must be 2, got 1: .* dims itself"),
        (TwoRows, {}, "pool 'TwoRows': dims must be 2, got 1, because its class makes windows of more than one row"),
        ("nothing", {}, "unknown pool 'nothing'"),
    ],
    ids=str,
)
def test_what_it_cannot_be_is_named(name, options, words):
    with pytest.raises(ValueError, match=words):
        create_pool(name, channels=4, **{"dims": 1, **options})


def test_a_class_that_takes_dims_gets_it():
    assert create_pool(Own, channels=4, dims=1).dims == 1
    assert create_pool(Own, channels=4, dims=3).dims == 3
    assert create_pool(lambda channels, **options: options, channels=4, dims=1) == {"dims": 1}
    assert create_pool("max", channels=4, dims=2).dims == 2
    assert isinstance(create_pool(nn.AvgPool2d, channels=4, kernel_size=2, dims=2), nn.AvgPool2d)


def test_a_pool_that_draws_follows_its_generator():
    pool, x = create_pool("stochastic", channels=4, dims=1).train(), torch.rand(2, 4, 40)
    results = []
    for seed in (1, 1, 2):
        pool.generator = torch.Generator().manual_seed(seed)
        results.append(pool(x))
    assert torch.equal(results[0], results[1])
    assert not torch.equal(results[0], results[2])


def test_a_size_is_a_length():
    pool = create_pool("ada", channels=4, dims=1, size=12)
    assert pool(torch.randn(2, 4, 12)).shape == (2, 4, 6)
    assert pool.logit.shape == (1, 1, 1, 6)


def test_a_base_of_ones_own_takes_rectangles_once_it_says_so():
    class Mine(Pool):
        def __init__(self, channels, kernel_size=2):
            super().__init__(channels, kernel_size)

        def pool(self, x):
            return poolbench.pooling.base.max_windows(x, self)

    with pytest.raises(ValueError, match=r"kernel_size .*because its class does not say that it takes rectangles"):
        create_pool(Mine, channels=4, kernel_size=(3, 2))
    with pytest.raises(ValueError, match="dims must be 2, got 1, because its class does not say"):
        create_pool(Mine, channels=4, dims=1)
    Mine.rectangles = True
    x = torch.randn(2, 4, 9)
    assert torch.equal(create_pool(Mine, channels=4, kernel_size=3, dims=1)(x), F.max_pool1d(x, 3))
