"""What every pool promises: the checks of poolbench.testing on every pool and its variants, and what is asked of ours
alone. A new operator is tested by being in the table."""

import inspect
import io
import warnings
from functools import partial

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import poolbench
from poolbench import create_pool
from poolbench.pooling import POOLS
from poolbench.testing import CHECKS, Skipped, check_pool
from tests.width import ALL

CASES = [(name, options) for name in POOLS.table for options in ({}, *POOLS.find(name).variants)]
# Checks that take a second each. Options that are numbers only put other constants into the same graph, so in the quick
# suite one variant stands for them (the numbers of CHOOSING choose another formula), and it is looked at less closely
# than the defaults: a difference along one direction, a graph that is captured and not differentiated, no export.
SLOW = ("gradients", "compiles", "exports", "tracing")
LESS_CLOSELY = ("gradients", "compiles", "exports")
MIDDLING = ("low_precision", "devices")  # a fifth of a second
CHOOSING = ("p", "levels", "grid_size")
# Their sizes and gradients go through windows.py and base.py, which pools that are not named here take through aot and
# to ONNX too: these are captured, and that is all. A new pool is looked at closely; make test-all does so with all.
BY_WINDOWS = (
    "ada", "attention", "dpp", "fuzzy", "gated", "log_sum_exp", "lp", "mixed", "ordinal", "power_mean", "rank",
    "regularized", "stochastic", "tree", "leap", "overlapping", "adown", "subsample", "median",
)  # fmt: skip

FEWER_TAPS = {"carafe": {"kernel_size": 3}}  # in the quick suite: an export follows each tap, and 25 take 10 seconds


def words(case):
    name, options = case
    return f"{name}({','.join(f'{k}={v}' for k, v in options.items())})" if options else name


def graph(case):
    """What the graph of a pool depends on."""
    name, options = case
    kept = {k: v for k, v in options.items() if k in CHOOSING or isinstance(v, bool | str)}
    return name, tuple(sorted(kept.items()))


GRAPHS = list({graph(case): case for case in reversed(CASES)}.values())[::-1]  # the first variant of each

every_pool = pytest.mark.parametrize("name", POOLS.table)
every_variant = pytest.mark.parametrize(("name", "options"), CASES, ids=map(words, CASES))
every_slow = pytest.mark.parametrize(
    ("check", "name", "options"),
    [
        pytest.param(check, *case, id=f"{check}-{words(case)}")
        for check in SLOW
        for case in (CASES if ALL else GRAPHS)
        if ALL or check in ("gradients", "compiles") or not case[1]
    ],
)


def make(name, options, channels=4, dtype=torch.float32):
    """A pool with weights of its own that are the same in every test, in evaluation mode."""
    torch.manual_seed(1)
    return create_pool(name, channels=channels, **options).to(dtype).eval()


def builder(name, options):
    return lambda channels: create_pool(name, channels=channels, **options)


@every_variant
def test_it_keeps_the_contract(name, options):
    left_out = SLOW if ALL or not options else (*SLOW, *MIDDLING)
    outcomes = check_pool(builder(name, options), [check for check in CHECKS if check not in left_out])
    assert [one for one in outcomes if one.state == "failed"] == []


@every_slow
def test_it_keeps_the_slow_part_of_the_contract(check, name, options):
    run = CHECKS[check]
    alike = name in BY_WINDOWS and (check == "exports" or (check == "compiles" and not create_pool(name, 4).random))
    if not ALL and check in LESS_CLOSELY and (options or alike):
        run = partial(run, fast=True)
    if not ALL and check == "exports":
        options = options or FEWER_TAPS.get(name, {})
    # torch keeps what it learns of an operation, which for open sizes takes longer than learning it anew.
    kept = torch._dynamo.config.patch(fake_tensor_cache_enabled=check != "exports")
    try:
        with kept:
            run(builder(name, options))
    except Skipped as reason:
        pytest.skip(str(reason))


def apply(pool, x, seed=0):
    torch.manual_seed(seed)  # for pools that draw
    return pool(x)


@every_pool
def test_a_side_shrinks_to_the_whole_part_of_its_share(name):
    pool = make(name, {})
    least = max(2, int(pool.ratio))
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
    data.draw(st.random_module())
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
        ({"stride": 0}, "stride must be a (whole )?number of at least 1(, or two of them .*)?, got 0"),
        ({"stride": 1.5}, "stride must be"),
        ({"stride": True}, "stride must be"),
        ({"kernel_size": 0}, "kernel_size must be a whole number of at least 1(, or two of them .*)?, got 0"),
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


def test_it_takes_its_map_by_the_name_that_torch_gives_it():
    x = torch.randn(1, 4, 8, 8)
    for name in POOLS.table:
        pool = make(name, {})
        assert torch.equal(pool(input=x), pool(x)), name


@pytest.mark.parametrize("name", ["lp", "median", "mixed"])  # whose formula is another where nothing is differentiated
def test_a_trace_is_the_same_with_and_without_gradients(name):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of sizes that become constants
        torch.jit.trace(make(name, {}), (torch.randn(1, 4, 6, 6),), check_trace=True)


# The exporter before torch.export knows less: it follows no size through a crop or a border.
NOT_FOR_THE_OLD_EXPORTER = {"tips"}


def test_the_older_exporter_to_onnx_gives_the_same_or_says_why_not():
    onnxruntime = pytest.importorskip("onnxruntime")
    quiet = onnxruntime.SessionOptions()
    quiet.log_severity_level = 4
    x = torch.randn(2, 4, 9, 8)
    for name in POOLS.table:
        pool, file = make(name, {}), io.BytesIO()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            if name in NOT_FOR_THE_OLD_EXPORTER:
                with pytest.raises(torch.onnx.errors.SymbolicValueError, match="Unsupported"):
                    torch.onnx.export(pool, (x,), file, dynamo=False)
                continue
            torch.onnx.export(pool, (x,), file, dynamo=False)
        session = onnxruntime.InferenceSession(file.getvalue(), quiet)
        (y,) = session.run(None, {session.get_inputs()[0].name: x.numpy()})
        torch.testing.assert_close(torch.from_numpy(y.copy()), pool(x), rtol=1e-3, atol=1e-4, msg=name)


@every_pool
def test_a_window_larger_than_the_map_is_refused(name):
    if not {"kernel_size", "padding"} <= inspect.signature(POOLS.find(name)).parameters.keys():
        return  # one that pads by itself has no window larger than the map
    pool = make(name, {"kernel_size": 16})
    with pytest.raises(ValueError, match="kernel_size 16 is larger than the map of 2x2"):
        pool(torch.zeros(1, 4, 2, 2))


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
    options = inspect.signature(POOLS.find(name)).parameters.keys() - {"channels"}
    assert "stride" in text or any(f"{option}=" in text for option in options)


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
