"""What every pool promises. A new operator is tested by being in the table; its variants of interest go in below."""

import copy
import inspect
import io
import pickle

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

import poolbench
from poolbench import create_pool
from poolbench.pooling import POOLS

VARIANTS = {
    "max": [{"kernel_size": 3, "padding": 1}, {"kernel_size": 5, "stride": 3}],
    "average": [{"kernel_size": 3, "padding": 1}, {"kernel_size": 5}],
    "lp": [
        {"p": 1.0},
        {"p": 3.0},
        {"p": float("inf")},
        {"norm": "sum"},
        {"p": 3.0, "learnable": "layer"},
        {"p": 1.5, "learnable": "channel", "kernel_size": 3, "padding": 1},
    ],
    "overlapping": [{"mode": "average"}, {"padding": 1}],
    "strided_conv": [{"norm": False}, {"norm": False, "activation": False, "kernel_size": 4}],
    "subsample": [{"stride": 3}],
}
CASES = [(name, options) for name in POOLS.table for options in ({}, *VARIANTS.get(name, []))]

every_pool = pytest.mark.parametrize("name", POOLS.table)
every_variant = pytest.mark.parametrize(
    ("name", "options"),
    CASES,
    ids=[f"{name}({','.join(f'{k}={v}' for k, v in options.items())})" if options else name for name, options in CASES],
)


def make(name, options, channels=4, dtype=torch.float32):
    """A pool with weights of its own that are the same in every test, in evaluation mode."""
    torch.manual_seed(1)
    return create_pool(name, channels=channels, **options).to(dtype).eval()


def apply(pool, x, seed=0):
    torch.manual_seed(seed)  # for pools that draw
    return pool(x)


def distinct(*shape, dtype=torch.float64):
    """Numbers of both signs with no two near each other or near 0, where maxima and norms have kinks."""
    count = torch.Size(shape).numel()
    values = (torch.randperm(count) + 1).to(dtype) / count * 2 - 1
    return (values + 0.5 / count).view(shape)


def is_stored_as(x, memory_format):
    channels_fastest = x.stride(1) == 1  # of a cropped map too, which is not contiguous in any format
    return channels_fastest == (memory_format == torch.channels_last)


@every_pool
def test_a_side_shrinks_to_the_whole_part_of_its_share(name):
    pool = make(name, {})
    least = int(pool.ratio)
    for height in range(least, 21):
        for width in (least, 20, height):
            y = pool(torch.randn(1, 4, height, width))
            assert tuple(y.shape) == (1, 4, *pool.output_size((height, width)))
            if pool.ratio == least:
                assert tuple(y.shape[2:]) == (height // least, width // least)


@every_pool
def test_a_map_smaller_than_the_step_is_refused_by_name(name):
    pool = make(name, {})
    for size in [(1, 8), (8, 1), (1, 1)]:
        assert min(size) < pool.ratio
        with pytest.raises(ValueError, match=type(pool).__name__) as caught:
            pool(torch.zeros(1, 4, *size))
        assert f"{size[0]}x{size[1]}" in str(caught.value)


@every_pool
@given(geometry=st.fixed_dictionaries({"kernel_size": st.integers(1, 7), "stride": st.integers(1, 4)}), data=st.data())
def test_any_mix_of_window_step_and_border_gives_that_size(name, geometry, data):
    taken = inspect.signature(POOLS.find(name)).parameters
    options = {option: value for option, value in geometry.items() if option in taken}
    if "padding" in taken:
        options["padding"] = data.draw(st.integers(0, geometry["kernel_size"] // 2))
    try:
        pool = make(name, options, channels=2)
    except ValueError as error:
        assert POOLS.find(name).__name__ in str(error)  # noqa: PT017 - an operator may refuse a mix, by name
        return
    height, width = data.draw(st.integers(1, 14)), data.draw(st.integers(1, 14))
    x = torch.randn(1, 2, height, width)
    try:
        size = pool.output_size((height, width))
    except ValueError:
        with pytest.raises(ValueError, match=r"is smaller than|is larger than"):
            pool(x)
        return
    assert tuple(apply(pool, x).shape) == (1, 2, *size)


@every_pool
@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"channels": 0}, "channels must be"),
        ({"stride": 0}, "stride must be a whole number of at least 1, got 0"),
        ({"stride": 1.5}, "stride must be"),
        ({"stride": True}, "stride must be"),
        ({"kernel_size": 0}, "kernel_size must be a whole number of at least 1, got 0"),
        ({"kernel_size": "2"}, "kernel_size must be"),
        ({"kernel_size": 3, "padding": 2}, "padding must be a whole number from 0 to 1"),
        ({"padding": -1}, "padding must be"),
    ],
    ids=str,
)
def test_values_that_are_not_allowed_are_named(name, options, words):
    taken = inspect.signature(POOLS.find(name)).parameters
    if not options.keys() <= taken.keys():
        words = "has no option"  # which is as clear
    with pytest.raises(ValueError, match=words) as caught:
        create_pool(name, **{"channels": 3, **options})
    assert POOLS.find(name).__name__ in str(caught.value) or repr(name) in str(caught.value)


@every_pool
def test_a_window_larger_than_the_map_is_refused(name):
    if not {"kernel_size", "padding"} <= inspect.signature(POOLS.find(name)).parameters.keys():
        return  # one that pads by itself has no window larger than the map
    pool = make(name, {"kernel_size": 16})
    with pytest.raises(ValueError, match="kernel_size 16 is larger than the map of 2x2"):
        pool(torch.zeros(1, 4, 2, 2))


@every_variant
@given(batch=st.integers(1, 3), channels=st.integers(1, 3), height=st.integers(6, 13), width=st.integers(6, 13))
def test_an_image_does_not_see_the_others_of_its_batch(name, options, batch, channels, height, width):
    pool, x = make(name, options, channels), torch.randn(batch, channels, height, width)
    if pool.random:
        return  # one draw an image: no two batches are alike
    alone = torch.cat([pool(one) for one in x.split(1)])
    torch.testing.assert_close(pool(x), alone)
    order = torch.randperm(batch)
    torch.testing.assert_close(pool(x[order]), pool(x)[order])


@every_variant
@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("size", [(8, 8), (9, 11)])
def test_the_memory_format_is_kept(name, options, memory_format, size):
    pool = make(name, options)
    x = torch.randn(2, 4, *size).to(memory_format=memory_format).requires_grad_()
    y = apply(pool, x)
    assert is_stored_as(y, memory_format)
    y.backward(torch.ones_like(y))
    assert is_stored_as(x.grad, memory_format)
    plain = x.detach().contiguous().requires_grad_()
    y_plain = apply(pool, plain)
    torch.testing.assert_close(y, y_plain)
    y_plain.backward(torch.ones_like(y_plain))
    torch.testing.assert_close(x.grad, plain.grad)


@every_variant
def test_the_input_is_left_alone(name, options):
    for size in [(8, 8), (9, 9)]:
        x = torch.randn(2, 4, *size)
        before = x.clone()
        y = apply(make(name, options).train(), x)
        assert torch.equal(x, before)
        y.detach().fill_(7)  # a layer that works in place may follow
        assert torch.equal(x, before)


@every_variant
def test_gradients_are_those_of_the_function(name, options):
    pool = make(name, options, channels=2, dtype=torch.float64)
    names = [parameter for parameter, _ in pool.named_parameters()]
    values = [parameter.detach().clone().requires_grad_() for parameter in pool.parameters()]

    def function(x, *values):
        torch.manual_seed(0)
        return torch.func.functional_call(pool, dict(zip(names, values, strict=True)), (x,))

    for size in [(6, 6), (7, 5)]:
        assert torch.autograd.gradcheck(function, (distinct(2, 2, *size).requires_grad_(), *values))


@every_variant
def test_all_zero_maps_have_finite_gradients(name, options):
    pool, x = make(name, options).train(), torch.zeros(2, 4, 6, 6, requires_grad=True)
    y = apply(pool, x)
    assert y.isfinite().all()
    y.sum().backward()
    assert x.grad.isfinite().all()
    assert all(parameter.grad.isfinite().all() for parameter in pool.parameters())


@every_variant
def test_it_keeps_constants_exactly_if_it_says_so(name, options):
    pool = make(name, options)
    border = slice(1, -1) if getattr(pool, "padding", 0) else slice(None)

    def kept(level):
        y = apply(pool, torch.full((2, 4, 12, 12), level))[..., border, border]
        return torch.allclose(y, torch.full_like(y, level))

    assert all(map(kept, (0.0, 0.5, 3.0))) == pool.keeps_constants


@every_variant
def test_it_mixes_channels_exactly_if_it_says_so(name, options):
    pool, x = make(name, options), torch.rand(2, 4, 8, 8)
    other = x.clone()
    other[:, 0] += torch.rand(2, 8, 8)
    change = (apply(pool, x) - apply(pool, other)).abs().amax((0, 2, 3))
    assert change[0] > 0
    assert bool((change[1:] > 0).any()) == pool.mixes_channels
    order = [2, 0, 3, 1]
    if not pool.mixes_channels:
        torch.testing.assert_close(apply(pool, x[:, order]), apply(pool, x)[:, order])


@every_variant
def test_training_is_random_exactly_if_it_says_so(name, options):
    pool, x = make(name, options).train(), torch.rand(4, 4, 12, 12)
    assert torch.equal(apply(pool, x, seed=1), apply(pool, x, seed=2)) != pool.random
    assert torch.equal(apply(pool, x, seed=1), apply(pool, x, seed=1))


@every_variant
def test_evaluation_gives_the_same_every_time_and_changes_no_state(name, options):
    pool, x = make(name, options), torch.rand(2, 4, 9, 9)
    state = copy.deepcopy(pool.state_dict())
    assert torch.equal(pool(x), pool(x))
    assert all(torch.equal(value, state[key]) for key, value in pool.state_dict().items())


@every_variant
def test_every_parameter_is_there_from_the_start_and_learns_within_three_steps(name, options):
    pool = make(name, options).train()
    before = {key: parameter.detach().clone() for key, parameter in pool.named_parameters()}
    x, weight = nn.Parameter(torch.rand(4, 4, 9, 9)), torch.rand(1, 4, 1, 1)
    optimizer = torch.optim.SGD([x, *pool.parameters()], lr=1)
    for _ in range(3):
        optimizer.zero_grad()
        (pool(x) * weight).square().mean().backward()
        optimizer.step()
    assert {key for key, _ in pool.named_parameters()} == before.keys()
    assert all(not torch.equal(parameter, before[key]) for key, parameter in pool.named_parameters())


@every_variant
def test_its_state_comes_back(name, options):
    pool, x = make(name, options), torch.rand(2, 4, 9, 9)
    with torch.no_grad():
        for value in (*pool.parameters(), *pool.buffers()):
            if value.is_floating_point():
                value.add_(torch.rand_like(value))
    file = io.BytesIO()
    torch.save(pool.state_dict(), file)
    file.seek(0)
    again = create_pool(name, channels=4, **options).eval()
    again.load_state_dict(torch.load(file, weights_only=True))
    expected = apply(pool, x)
    assert torch.equal(apply(again, x), expected)
    assert torch.equal(apply(pickle.loads(pickle.dumps(pool)), x), expected)
    assert torch.equal(apply(copy.deepcopy(pool), x), expected)


@every_variant
def test_it_compiles_in_one_graph(name, options):
    torch._dynamo.reset()
    pool = make(name, options)
    compiled = torch.compile(pool, backend="aot_eager", fullgraph=True)
    x = torch.randn(2, 4, 9, 8, requires_grad=True)
    torch.testing.assert_close(apply(compiled, x), apply(pool, x))
    (expected,) = torch.autograd.grad(apply(pool, x).square().sum(), x)
    (gradient,) = torch.autograd.grad(apply(compiled, x).square().sum(), x)
    torch.testing.assert_close(gradient, expected)


@every_variant
def test_it_exports_for_any_batch_size(name, options):
    pool = make(name, options)
    program = torch.export.export(
        pool, (torch.randn(2, 4, 9, 8),), dynamic_shapes=({0: torch.export.Dim("batch", min=1, max=64)},)
    )
    x = torch.randn(5, 4, 9, 8)
    torch.testing.assert_close(apply(program.module(), x), apply(pool, x))


@every_variant
def test_it_works_under_function_transforms(name, options):
    pool = make(name, options, channels=2, dtype=torch.float64)
    if pool.random:
        return
    x = distinct(3, 1, 2, 5, 4)
    torch.testing.assert_close(torch.func.vmap(pool)(x), torch.stack([pool(one) for one in x]))
    expected = torch.autograd.functional.jacobian(pool, x[0])
    torch.testing.assert_close(torch.func.jacrev(pool)(x[0]), expected)


@every_variant
def test_bfloat16_gives_bfloat16_near_the_full_precision(name, options):
    pool, x = make(name, options), torch.rand(2, 4, 9, 8).bfloat16()
    expected = apply(pool, x.float())
    with torch.autocast("cpu", torch.bfloat16):
        torch.testing.assert_close(apply(pool, x).float(), expected, rtol=4e-2, atol=4e-2)
    y = apply(copy.deepcopy(pool).bfloat16(), x)
    assert y.dtype == torch.bfloat16
    torch.testing.assert_close(y.float(), expected, rtol=4e-2, atol=4e-2)


@every_variant
def test_its_flops_grow_with_channels_and_area(name, options):
    pool = make(name, options)
    flops = pool.flops((12, 12))
    assert isinstance(flops, int)
    assert flops >= 0
    assert pool.flops((24, 12)) == 2 * flops
    more = make(name, options, channels=8).flops((12, 12))
    assert more > 2 * flops if pool.mixes_channels else more == 2 * flops


@every_pool
def test_it_is_reached_by_its_name_and_its_class_and_documented(name):
    pool_class = POOLS.find(name)
    assert getattr(poolbench.pooling, pool_class.__name__) is pool_class
    assert type(create_pool(pool_class, channels=2)) is pool_class
    assert type(create_pool(f"poolbench.pooling.{pool_class.__name__}", channels=2)) is pool_class
    for part in ("Args:", "Shape:", "Raises:", "Source:"):
        assert part in pool_class.__doc__
    options = inspect.signature(pool_class).parameters
    assert all(option in pool_class.__doc__ for option in options)
    first, source = POOLS.describe(name)
    assert first
    assert source


@every_pool
def test_its_description_names_the_class_and_options(name):
    text = repr(make(name, {}))
    assert POOLS.find(name).__name__ in text
    assert "stride" in text


def test_the_names_are_listed_in_the_order_of_the_table():
    assert poolbench.list_pools()[: len(POOLS.table)] == list(POOLS.table)


@pytest.mark.parametrize(("wrong", "right"), [("avrage", "average"), ("strided_convolution", "strided_conv")])
def test_an_unknown_name_is_met_with_the_nearest(wrong, right):
    with pytest.raises(ValueError, match=f"unknown pool '{wrong}'. Did you mean '{right}'") as caught:
        create_pool(wrong, channels=3)
    assert all(name in str(caught.value) for name in POOLS.table)


def test_an_unknown_option_is_met_with_the_nearest():
    with pytest.raises(ValueError, match="pool 'lp' has no option 'power'") as caught:
        create_pool("lp", channels=3, power=2)
    assert "Its options: kernel_size, stride, padding, p, norm, learnable" in str(caught.value)
    with pytest.raises(ValueError, match="Did you mean 'kernel_size'"):
        create_pool("max", channels=3, kernel=2)
