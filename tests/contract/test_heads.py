"""What every head promises. A new head is tested by being in the table."""

import copy
import inspect
import io

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

import poolbench
from poolbench import create_head
from poolbench.heads import HEADS

SIZE = (5, 4)
every_head = pytest.mark.parametrize("name", HEADS.table)


def make(name, channels=6, num_classes=3, size=SIZE, dtype=torch.float32, **options):
    torch.manual_seed(1)
    return create_head(name, channels=channels, num_classes=num_classes, size=size, **options).to(dtype).eval()


@every_head
@pytest.mark.parametrize("hidden", [(), (7,), [8, 5]])
@given(batch=st.integers(1, 3), channels=st.integers(1, 5), num_classes=st.integers(1, 4))
def test_a_map_becomes_logits(name, hidden, batch, channels, num_classes):
    head = make(name, channels, num_classes, hidden=hidden)
    assert head(torch.randn(batch, channels, *SIZE)).shape == (batch, num_classes)


@every_head
def test_it_takes_any_size_exactly_if_it_says_so(name):
    head = make(name)
    for size in [(1, 1), (8, 3), (2, 7)]:
        x = torch.randn(2, 6, *size)
        if head.any_size:
            assert head(x).shape == (2, 3)
            assert make(name, size=None)(x).shape == (2, 3)
        else:
            with pytest.raises(ValueError, match=f"built for maps of 5x4 pixels and got {size[0]}x{size[1]}"):
                head(x)
    if not head.any_size:
        with pytest.raises(ValueError, match=f"{type(head).__name__}: size="):
            make(name, size=None)


@every_head
@pytest.mark.parametrize("hidden", [(), (7,)])
def test_gradients_are_those_of_the_function(name, hidden):
    head = make(name, channels=2, hidden=hidden, dtype=torch.float64)
    names = [parameter for parameter, _ in head.named_parameters()]
    values = [parameter.detach().clone().requires_grad_() for parameter in head.parameters()]
    x = (torch.randperm(2 * 2 * 20).double().view(2, 2, *SIZE) / 40 - 1).requires_grad_()

    def function(x, *values):
        return torch.func.functional_call(head, dict(zip(names, values, strict=True)), (x,))

    assert torch.autograd.gradcheck(function, (x, *values))


@every_head
def test_an_image_does_not_see_the_others_of_its_batch(name):
    head, x = make(name), torch.randn(4, 6, *SIZE)
    torch.testing.assert_close(head(x), torch.cat([head(one) for one in x.split(1)]))
    torch.testing.assert_close(head(x.flip(0)), head(x).flip(0))


@every_head
def test_the_input_is_left_alone_and_its_memory_format_does_not_matter(name):
    head, x = make(name, hidden=(7,)), torch.randn(2, 6, *SIZE)
    before = x.clone()
    y = head(x)
    torch.testing.assert_close(head(x.to(memory_format=torch.channels_last)), y)
    assert torch.equal(head(x), y)
    assert torch.equal(x, before)


@every_head
@pytest.mark.parametrize("hidden", [(), (7,)])
def test_every_parameter_gets_a_gradient(name, hidden):
    head = make(name, hidden=hidden)
    head(torch.rand(4, 6, *SIZE)).square().sum().backward()
    assert all(parameter.grad.abs().sum() > 0 for parameter in head.parameters())


@every_head
def test_hidden_layers_have_the_widths_that_were_asked_for(name):
    layers = [m for m in make(name, hidden=(7, 5)).modules() if isinstance(m, nn.Linear)]
    assert [layer.out_features for layer in layers] == [7, 5, 3]
    assert [layer.in_features for layer in layers[1:]] == [7, 5]
    plain = [m for m in make(name).modules() if isinstance(m, nn.Linear)]
    assert [layer.out_features for layer in plain] == [3]


@every_head
def test_its_state_comes_back(name):
    head, x, file = make(name, hidden=(7,)), torch.rand(2, 6, *SIZE), io.BytesIO()
    torch.save(head.state_dict(), file)
    file.seek(0)
    torch.manual_seed(99)
    again = create_head(name, channels=6, num_classes=3, size=SIZE, hidden=[7]).eval()
    assert not torch.equal(again(x), head(x))
    again.load_state_dict(torch.load(file, weights_only=True))
    assert torch.equal(again(x), head(x))
    assert torch.equal(copy.deepcopy(head)(x), head(x))


@every_head
def test_it_compiles_in_one_graph_and_exports(name):
    torch._dynamo.reset()
    head, x = make(name), torch.rand(2, 6, *SIZE)
    torch.testing.assert_close(torch.compile(head, backend="aot_eager", fullgraph=True)(x), head(x))
    torch.testing.assert_close(torch.export.export(head, (x,)).module()(x), head(x))


@every_head
def test_bfloat16_runs(name):
    head, x = make(name, hidden=(7,)), torch.rand(2, 6, *SIZE)
    y = copy.deepcopy(head).bfloat16()(x.bfloat16())
    assert y.dtype == torch.bfloat16
    torch.testing.assert_close(y.float(), head(x), rtol=5e-2, atol=5e-2)


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
        ({"hiden": [3]}, "has no option 'hiden'. Did you mean 'hidden'"),
    ],
    ids=str,
)
def test_values_that_are_not_allowed_are_named(name, options, words):
    with pytest.raises(ValueError, match=words) as caught:
        make(name, **options)
    assert HEADS.find(name).__name__ in str(caught.value) or repr(name) in str(caught.value)


@every_head
def test_it_is_reached_by_its_name_and_its_class_and_documented(name):
    head_class = HEADS.find(name)
    assert getattr(poolbench.heads, head_class.__name__) is head_class
    assert type(create_head(head_class, channels=2, num_classes=2, size=SIZE)) is head_class
    for part in ("Args:", "Shape:", "Raises:", "Source:", *inspect.signature(head_class).parameters):
        assert part in head_class.__doc__
    assert all(HEADS.describe(name))
    flops = make(name).flops(SIZE)
    assert isinstance(flops, int)
    assert flops >= 0


def test_an_unknown_name_is_met_with_the_nearest():
    with pytest.raises(ValueError, match=r"unknown head 'global_avg'. Did you mean 'global_average'"):
        create_head("global_avg", channels=3, num_classes=2)
