"""What every head promises. A new head is tested by being in the table, with the options that its class lists as
``variants``; one that is fitted after training, before and after a fit."""

import copy
import inspect
import io
from dataclasses import dataclass, field
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import poolbench
from poolbench import create_head, create_model
from poolbench.heads import HEADS
from poolbench.measure.cost import cost
from poolbench.models.sites import initialise
from tests.width import ALL

SIZE = (5, 4)


@dataclass(frozen=True)
class Case:
    """A head with options, perhaps fitted."""

    name: str
    options: dict[str, Any] = field(default_factory=dict)
    fitted: bool = False

    def __str__(self):
        words = [self.name, *(f"{key}={value}" for key, value in self.options.items())]
        return " ".join(words + ["fitted"] * self.fitted)


def variants(name):
    return [Case(name, options) for options in ({}, *HEADS.find(name).variants)]


def takes_hidden(name):
    return "hidden" in inspect.signature(HEADS.find(name)).parameters


def layered(case):
    """Can it have hidden layers?"""
    return takes_hidden(case.name) and not case.options.get("class_maps")


UNFITTED = [case for name in HEADS.table for case in variants(name)]
FITTED = [Case(case.name, case.options, True) for case in UNFITTED if hasattr(HEADS.find(case.name), "fit")]
# Parameters that a variant makes useless.
IDLE = {"netvlad centres=1": {"assignment_weight", "assignment_bias"}}  # one centre gets all of every pixel
# Variants with the graph of another case and other numbers in it: compiling them shows nothing more.
SAME_GRAPH = {
    "lp p=3.5",
    "lp norm=sum",
    "gem p=0.5 eps=0.001",
    "log_sum_exp sharpness=0.5",
    "spp bins=paper",
    "netvlad centres=1",
    "capsule types=3 iterations=1",
    "attention kind=class blocks=1 layer_scale=1.0",
    "sim_pool gamma=1.25",
    "efficient_probe queries=1",
    "bilinear dimension=4 iterations=1",
}
GRAPHS = [case for case in UNFITTED + FITTED if str(case) not in SAME_GRAPH and (case.fitted or case.name != "mop")]
LAYERED = [(case, hidden) for case in UNFITTED for hidden in ((), (7,)) if layered(case) or not hidden]

every_head = pytest.mark.parametrize("name", HEADS.table)
every_case = pytest.mark.parametrize("case", UNFITTED + FITTED, ids=str)
every_unfitted = pytest.mark.parametrize("case", UNFITTED, ids=str)
every_fitted = pytest.mark.parametrize("case", FITTED, ids=str)
every_layering = pytest.mark.parametrize(("case", "hidden"), LAYERED, ids=str)


def build(case, channels=6, num_classes=3, size=SIZE, **options):
    torch.manual_seed(1)
    if not layered(case):
        options.pop("hidden", None)
    return create_head(case.name, channels, num_classes, size, **{**case.options, **options}).eval()


def make(case, dtype=torch.float32, **options):
    """As ``build``, and fitted where the case says so."""
    head = build(case, **options)
    if case.fitted:
        fit(head)
    return head.to(dtype)


def training_set(head, images=120):
    """A function as ``fit`` takes it: maps in which a class raises one channel, in batches."""
    generator = torch.Generator().manual_seed(5)
    y = torch.randint(head.num_classes, (images,), generator=generator)
    x = torch.rand(images, head.channels, *SIZE, generator=generator)
    x[torch.arange(images), y % head.channels] += 1
    return lambda: zip(x.split(50), y.split(50), strict=True)


def fit(head, seed=0):
    head.fit(training_set(head), torch.Generator().manual_seed(seed))


def takes(head, size):
    return min(size) >= head.least_side and size[0] * size[1] >= head.least_cells


@every_unfitted
@pytest.mark.parametrize("hidden", [(), [8, 5]])
@settings(max_examples=5)
@given(batch=st.integers(1, 3), channels=st.integers(1, 5), num_classes=st.integers(1, 4), seed=st.random_module())
def test_a_map_becomes_logits(case, hidden, batch, channels, num_classes, seed):
    head = build(case, channels=channels, num_classes=num_classes, hidden=hidden)
    assert head(torch.randn(batch, channels, *SIZE)).shape == (batch, num_classes)


@every_case
def test_it_takes_any_size_from_its_least_on_exactly_if_it_says_so(case):
    head = make(case)
    assert takes(head, SIZE)
    for size in [(1, 1), (1, 2), (2, 1), (3, 3), (8, 3), (2, 7), (9, 11)]:
        x = torch.randn(2, 6, *size)
        if not takes(head, size):
            for wrong in (lambda x=x: head(x), lambda size=size: build(case, size=size)):
                with pytest.raises(ValueError, match=f"needs maps of at least .*got {size[0]}x{size[1]}") as caught:
                    wrong()
                assert type(head).__name__ in str(caught.value)
        elif head.any_size:
            assert head(x).shape == (2, 3)
            assert build(case, size=None)(x).shape == (2, 3)
        else:
            with pytest.raises(ValueError, match=f"built for maps of 5x4 pixels and got {size[0]}x{size[1]}"):
                head(x)
    if not head.any_size:
        with pytest.raises(ValueError, match=f"{type(head).__name__}: size="):
            build(case, size=None)


@pytest.mark.parametrize(("case", "hidden"), [*LAYERED, *((case, ()) for case in FITTED)], ids=str)
def test_gradients_are_those_of_the_function(case, hidden):
    head = make(case, channels=2, hidden=hidden, dtype=torch.float64)
    names = [parameter for parameter, _ in head.named_parameters()]
    values = [parameter.detach().clone().requires_grad_() for parameter in head.parameters()]
    x = ((torch.randperm(2 * 2 * 20).double().view(2, 2, *SIZE) - 39.3) / 40).requires_grad_()  # no ties in |x| either

    def function(x, *values):
        return torch.func.functional_call(head, dict(zip(names, values, strict=True)), (x,))

    # One by one where there are few parameters, else along random directions.
    many = sum(value.numel() for value in values) > 300
    assert torch.autograd.gradcheck(function, (x, *values), fast_mode=many)


@every_case
def test_an_image_does_not_see_the_others_of_its_batch(case):
    head, x = make(case), torch.randn(4, 6, *SIZE)
    torch.testing.assert_close(head(x), torch.cat([head(one) for one in x.split(1)]))
    torch.testing.assert_close(head(x.flip(0)), head(x).flip(0))


@every_case
def test_the_input_is_left_alone_and_its_memory_format_does_not_matter(case):
    head, x = make(case, hidden=(7,)), torch.randn(2, 6, *SIZE)
    before = x.clone()
    y = head(x)
    torch.testing.assert_close(head(x.to(memory_format=torch.channels_last)), y)
    torch.testing.assert_close(copy.deepcopy(head).to(memory_format=torch.channels_last)(x), y)
    assert torch.equal(head(x), y)
    assert torch.equal(x, before)


@every_case
@pytest.mark.parametrize("level", [0.0, 1e-4, 1e4])
def test_maps_without_contrast_and_extreme_ones_are_survived(case, level):
    head = make(case)
    for x in (torch.full((2, 6, *SIZE), level), level * torch.rand(2, 6, *SIZE)):
        x.requires_grad_()
        y = head(x)
        y.sum().backward()
        assert y.isfinite().all()
        assert x.grad.isfinite().all()
        assert all(p.grad is None or p.grad.isfinite().all() for p in head.parameters())


@every_layering
def test_every_parameter_gets_a_gradient_within_three_steps(case, hidden):
    head = make(case, hidden=hidden)
    maps, y = torch.rand(4, 6, *SIZE), torch.tensor([0, 1, 2, 0])
    images = torch.rand(4, 3, *(getattr(head, "image_size", None) or (10, 8)))
    optimizer = torch.optim.SGD(head.parameters(), lr=0.1)
    waiting = {name for name, parameter in head.named_parameters() if parameter.requires_grad}
    for _ in range(3):
        optimizer.zero_grad()
        head.training_loss(maps, images, y, 0.0)[0].backward()
        waiting -= {name for name, p in head.named_parameters() if p.grad is not None and p.grad.abs().sum() > 0}
        optimizer.step()
    assert waiting == IDLE.get(str(case), set())


@every_unfitted
def test_what_training_makes_small_is_a_number_and_comes_with_the_logits(case):
    head, y = make(case), torch.tensor([0, 1, 2, 0])
    maps = torch.rand(4, 6, *SIZE)
    images = torch.rand(4, 3, *(getattr(head, "image_size", None) or (10, 8)))
    for smoothing in (0.0, 0.2):
        loss, logits = head.training_loss(maps, images, y, smoothing)
        torch.testing.assert_close(logits, head(maps))
        assert loss.shape == head.criterion(logits, y, smoothing).shape == ()
        assert loss.isfinite()
        assert loss >= head.criterion(logits, y, smoothing) - 1e-6


@pytest.mark.parametrize("case", [case for case in UNFITTED if layered(case)], ids=str)
def test_hidden_layers_have_the_widths_that_were_asked_for(case):
    layers = [m for m in build(case, hidden=(7, 5)).classifier if isinstance(m, nn.Linear)]
    assert [layer.out_features for layer in layers] == [7, 5, 3]
    assert [layer.in_features for layer in layers[1:]] == [7, 5]
    plain = [m for m in build(case, hidden=()).classifier if isinstance(m, nn.Linear)]
    assert [layer.out_features for layer in plain] == [3]


@every_unfitted
def test_all_weights_are_drawn_by_reset_parameters(case):
    """So that a model's seed decides about them, whatever was drawn before."""
    head, other = build(case), build(case)
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.add_(1)
    initialise(head, seed=3)
    initialise(other, seed=3)
    state = other.state_dict()
    assert all(torch.equal(value, state[key]) for key, value in head.state_dict().items())


@every_case
def test_its_state_comes_back(case):
    head, x, file = make(case), torch.rand(2, 6, *SIZE), io.BytesIO()
    torch.save(head.state_dict(), file)
    file.seek(0)
    again = build(case)  # never fitted: that is part of the state
    with torch.no_grad():
        for parameter in again.parameters():
            parameter.add_(torch.rand_like(parameter))
    assert not torch.equal(again(x), head(x))
    again.load_state_dict(torch.load(file, weights_only=True))
    assert torch.equal(again(x), head(x))
    assert torch.equal(copy.deepcopy(head)(x), head(x))


@pytest.mark.parametrize("case", GRAPHS if ALL else [case for case in GRAPHS if not case.options], ids=str)
def test_it_compiles_in_one_graph_and_exports(case):
    torch._dynamo.reset()
    head, x = make(case), torch.rand(2, 6, *SIZE)
    torch.testing.assert_close(torch.compile(head, backend="aot_eager", fullgraph=True)(x), head(x))
    torch.testing.assert_close(torch.export.export(head, (x,)).module()(x), head(x))


@every_case
def test_bfloat16_runs(case):
    head, x = make(case), torch.rand(2, 6, *SIZE)
    y = copy.deepcopy(head).bfloat16()(x.bfloat16())
    assert y.dtype == torch.bfloat16
    torch.testing.assert_close(y.float(), head(x), rtol=5e-2, atol=5e-2)


@every_case
def test_autocast_gives_about_the_same_and_finite_gradients(case):
    head, x = make(case), torch.rand(2, 6, *SIZE, requires_grad=True)
    with torch.autocast("cpu", torch.bfloat16):
        y = head(x)
    torch.testing.assert_close(y.float(), head(x), rtol=5e-2, atol=5e-2)
    y.float().sum().backward()
    assert x.grad.isfinite().all()


@every_fitted
def test_a_fit_reads_the_labels_and_is_repeated_by_its_generator(case):
    head, others = build(case), [build(case), build(case)]
    x, y = (torch.cat(parts) for parts in zip(*training_set(head)(), strict=True))
    before = head(x)
    state = torch.get_rng_state()
    fit(head)
    assert torch.equal(torch.get_rng_state(), state)  # it draws from the generator that it was given
    assert not torch.equal(head(x), before)
    assert (head(x).argmax(1) == y).float().mean() > 0.9
    torch.rand(3)
    for other in others:
        fit(other)
        torch.testing.assert_close(other(x), head(x), rtol=0, atol=0)


@every_head
@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"channels": 0}, "channels must be a whole number of at least 1, got 0"),
        ({"num_classes": 0}, "num_classes must be a whole number of at least 1, got 0"),
        ({"num_classes": 2.0}, "num_classes must be"),
        ({"hidden": 256}, "hidden must be a list of widths of at least 1, got 256"),
        ({"hidden": "256"}, "hidden must be"),
        ({"hidden": None}, "hidden must be"),
        ({"hidden": [0]}, "hidden must be"),
        ({"hidden": [True]}, "hidden must be"),
        ({"hiden": [3]}, "has no option 'hiden'"),
    ],
    ids=str,
)
def test_values_that_are_not_allowed_are_named(name, options, words):
    if "hidden" in options and not takes_hidden(name):
        words = "has no option 'hidden'"
    with pytest.raises(ValueError, match=words) as caught:
        create_head(name, **{"channels": 6, "num_classes": 3, "size": SIZE, **options})
    assert HEADS.find(name).__name__ in str(caught.value) or repr(name) in str(caught.value)


@every_head
def test_it_is_reached_by_its_name_and_its_class_and_documented(name):
    head_class = HEADS.find(name)
    assert getattr(poolbench.heads, head_class.__name__) is head_class
    assert type(create_head(head_class, channels=2, num_classes=2, size=SIZE)) is head_class
    for part in ("Args:", "Use:", "Shape:", "Raises:", "Source:", *inspect.signature(head_class).parameters):
        assert part in head_class.__doc__
    assert all(HEADS.describe(name))


@every_case
def test_its_cost_is_a_number_and_is_counted_in_a_net(case):
    head = make(case)
    flops = head.flops(SIZE)
    assert isinstance(flops, int)
    assert flops >= 0
    net = create_model("convnet", widths=(4, head.channels), depths=(1, 1))
    plain, net.head = cost(net, (4 * SIZE[0], 4 * SIZE[1])), head
    trained = [p.requires_grad for p in net.parameters()]
    told = cost(net, (4 * SIZE[0], 4 * SIZE[1]))
    assert told["forward_flops"] > 0.9 * plain["forward_flops"]
    assert told["pool_flops"] >= flops
    assert [p.requires_grad for p in net.parameters()] == trained


def test_an_unknown_name_is_met_with_the_nearest():
    with pytest.raises(ValueError, match=r"unknown head 'global_avg'. Did you mean 'global_average'"):
        create_head("global_avg", channels=3, num_classes=2)
