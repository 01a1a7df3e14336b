import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from poolbench import create_head, create_model
from poolbench.training.optimizers import sgd


def make(channels=3, **options):
    return create_head("gem", channels=channels, num_classes=2, **options)


@pytest.mark.parametrize("options", [{}, {"per_channel": True}, {"learnable": False}, {"groups": 3}], ids=str)
@given(
    p=st.floats(0.05, 20),
    eps=st.sampled_from([1e-6, 1e-2]),
    height=st.integers(1, 6),
    width=st.integers(1, 6),
    seed=st.random_module(),
)
def test_it_is_the_power_mean_of_what_is_at_least_eps(options, p, eps, height, width, seed):
    x = torch.randn(2, 3, height, width, dtype=torch.float64)
    expected = (x.clamp(min=eps) ** p).mean((2, 3)) ** (1 / p)
    head = make(p=p, eps=eps, **options).double()
    torch.testing.assert_close(head.pool(x), expected, rtol=1e-5, atol=1e-8)  # of p = 0.05 it takes the 20th power


@pytest.mark.parametrize(
    ("options", "shape"),
    [({}, (1,)), ({"per_channel": True}, (3,)), ({"learnable": False}, None), ({"groups": 3}, (3,))],
    ids=str,
)
def test_p_starts_at_three_as_one_number_or_one_a_channel(options, shape):
    head = make(**options)
    own = [tuple(p.shape) for name, p in head.named_parameters() if not name.startswith("classifier")]
    assert own == ([] if shape is None else [shape])
    if shape is None:
        assert head.p == 3.0
    else:
        torch.testing.assert_close(head.p.detach(), torch.full(shape, 3.0))


def test_neighbouring_channels_share_the_p_of_their_group():
    head, x = make(channels=6, groups=2), torch.rand(2, 6, 4, 5)
    with torch.no_grad():
        head.rho.copy_(torch.tensor([0.5, 4.0]))
    first, second = (make(channels=3, p=p).pool(part) for p, part in zip(head.p.tolist(), x.split(3, 1), strict=True))
    torch.testing.assert_close(head.pool(x), torch.cat([first, second], 1))
    head.pool(x).sum().backward()
    assert head.rho.grad.shape == (2,)
    assert (head.rho.grad != 0).all()


def test_as_many_groups_as_channels_are_one_p_a_channel_and_one_group_is_one_for_all():
    x = torch.rand(2, 6, 4, 5)
    for groups, other in ((6, make(channels=6, per_channel=True)), (1, make(channels=6))):
        head = make(channels=6, groups=groups)
        assert {name: p.shape for name, p in head.named_parameters()} == {
            name: p.shape for name, p in other.named_parameters()
        }
        with torch.no_grad():
            head.rho.copy_(other.rho.normal_())
        assert torch.equal(head.pool(x), other.pool(x))


def test_groups_export_and_compile():
    torch._dynamo.reset()
    head, x = make(channels=6, groups=2).eval(), torch.rand(2, 6, 4, 5)
    torch.testing.assert_close(torch.compile(head, backend="aot_eager", fullgraph=True)(x), head(x))
    torch.testing.assert_close(torch.export.export(head, (x,)).module()(x), head(x))


@given(st.floats(0.02, 100))
def test_it_starts_where_it_was_asked_to(p):
    torch.testing.assert_close(make(p=p).p.item(), p, rtol=1e-4, atol=0)


def test_it_lies_between_the_global_average_and_the_global_maximum():
    x = torch.rand(2, 3, 5, 4) + 0.01
    average, most = (create_head(name, channels=3, num_classes=2).pool(x) for name in ("global_average", "global_max"))
    torch.testing.assert_close(make(p=1.0).pool(x), average)
    torch.testing.assert_close(make(p=1000.0).pool(x), most, rtol=20 ** (1 / 1000) - 1, atol=0)
    lp = create_head("lp", channels=3, num_classes=2, p=3.0).pool(x)
    torch.testing.assert_close(make().pool(x), lp)


@pytest.mark.parametrize("p", [0.3, 1.0, 3.0, 9.0])
def test_a_learned_p_has_the_gradient_of_the_formula(p):
    """dy/dp = y (-ln S / p^2 + sum z^p ln z / (p sum z^p)), S the mean of z^p."""
    head, x = make(p=p, per_channel=True).double(), torch.rand(2, 3, 4, 5, dtype=torch.float64)
    order = head.p
    (gradient,) = torch.autograd.grad(head.pool(x).sum(), head.rho, retain_graph=True)
    (inner,) = torch.autograd.grad(order.sum(), head.rho)
    z, p = x.clamp(min=1e-6).flatten(2), order.detach()[0].item()
    powers = z**p
    s = powers.mean(2)
    expected = s ** (1 / p) * (-s.log() / p**2 + (powers * z.log()).sum(2) / (p * powers.sum(2)))
    torch.testing.assert_close(gradient / inner, expected.sum(0))


@pytest.mark.parametrize("options", [{}, {"per_channel": True}, {"groups": 3}], ids=str)
@pytest.mark.parametrize("direction", [1, -1])
def test_p_stays_positive_and_the_mean_finite_however_far_it_is_pushed(options, direction):
    head, x = make(**options), torch.rand(2, 3, 4, 5)
    with torch.no_grad():
        head.rho.add_(direction * 1e4)
    y = head.pool(x.requires_grad_())
    y.sum().backward()
    assert (head.p > 0).all()
    assert (y >= 0).all()
    assert (y <= x.flatten(2).amax(2) * (1 + 1e-4)).all()
    assert x.grad.isfinite().all()
    assert head.rho.grad.isfinite().all()
    head.reset_parameters()
    torch.testing.assert_close(head.p.detach(), torch.full_like(head.rho, 3.0))


@pytest.mark.parametrize("eps", [1e-6, 1e-20])
@pytest.mark.parametrize("scale", [0.0, 1e-30, 1e-6, 1e30])
def test_extreme_maps_give_finite_values_and_gradients(scale, eps):
    x = (torch.rand(2, 3, 4, 4) * scale).requires_grad_()
    x.data[:, :, 0, 0] = 0  # a cell that vanishes beside its neighbours
    head = make(eps=eps)
    y = head.pool(x)
    y.sum().backward()
    assert (y >= eps * (1 - 1e-5)).all()
    assert y.isfinite().all()
    assert x.grad.isfinite().all()
    assert head.rho.grad.isfinite().all()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_computed_in_float32(dtype):
    """At p = 3 the cube of eps is 1e-18, which float16 does not have."""
    x = (torch.rand(2, 3, 4, 4) * 1e-3).to(dtype)
    head = make(learnable=False)
    y = head.pool(x)
    assert y.dtype == dtype
    assert torch.equal(y, head.pool(x.float()).to(dtype))
    zeros = head.pool(torch.zeros(1, 3, 4, 4, dtype=dtype))
    torch.testing.assert_close(zeros.float(), torch.full((1, 3), 1e-6), rtol=0.1, atol=0)


@pytest.mark.parametrize("per_channel", [False, True])
def test_weight_decay_spares_p(per_channel):
    model = create_model(
        "convnet", head=lambda **a: create_head("gem", per_channel=per_channel, **a), widths=(4,), depths=(1,)
    )
    (optimizer,) = sgd(model, weight_decay=0.1).optimizers
    decays = {id(p): group["weight_decay"] for group in optimizer.param_groups for p in group["params"]}
    assert decays[id(model.head.rho)] == 0
    assert decays[id(model.head.classifier[0].weight)] == 0.1


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"p": 0}, "GeM: p must be a number above 0.01, got 0"),
        ({"p": 0.01}, "p must be"),
        ({"p": math.inf}, "p must be"),
        ({"p": True}, "p must be"),
        ({"eps": 0.0}, "GeM: eps must be a number above 0, got 0.0"),
        ({"learnable": "channel"}, "learnable must be true or false, got 'channel'"),
        ({"per_channel": 1}, "per_channel must be true or false, got 1"),
        ({"per_channel": True, "learnable": False}, "per_channel must be false where learnable is"),
        ({"groups": 2}, "GeM: groups must divide channels=3, got 2"),
        ({"groups": 0}, "groups must be a whole number of at least 1, got 0"),
        ({"groups": 3, "per_channel": True}, "groups must be 1 where each channel has its own p, got 3"),
        ({"groups": 3, "learnable": False}, "groups must be 1 where a fixed p is one for all, got 3"),
    ],
    ids=str,
)
def test_errors_name_the_option(options, words):
    with pytest.raises(ValueError, match=words):
        make(**options)


def test_flops():
    # eps, peak, division by it, logarithm, product, exponential, addition; division, logarithm, division, exp, scale
    assert make().flops((4, 5)) == 3 * (20 + 19 + 4 * 20 + 19 + 5)
