import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from poolbench import create_head, create_model
from poolbench.training.optimizers import sgd


def make(channels=3, **options):
    return create_head("log_sum_exp", channels=channels, num_classes=2, **options)


@pytest.mark.parametrize("options", [{}, {"per_channel": True}, {"learnable": False}], ids=str)
@given(
    sharpness=st.floats(0.05, 30),
    height=st.integers(1, 6),
    width=st.integers(1, 6),
    seed=st.random_module(),
)
def test_it_is_the_logarithm_of_the_mean_exponential(options, sharpness, height, width, seed):
    x = torch.randn(2, 3, height, width, dtype=torch.float64)
    expected = (x * sharpness).exp().mean((2, 3)).log() / sharpness
    head = make(sharpness=sharpness, **options).double()
    torch.testing.assert_close(head.pool(x), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("learnable", [True, False])
@pytest.mark.parametrize("sharpness", [10.0, 0.7])
def test_it_is_that_of_timm_and_so_are_its_gradients(learnable, sharpness):
    other_pool = pytest.importorskip("timm.layers.other_pool")
    head = make(learnable=learnable, sharpness=sharpness).double()
    theirs = other_pool.LsePlus2d(r=sharpness, r_learnable=learnable).double()
    theirs.r.data.copy_(torch.as_tensor(head.sharpness).squeeze())  # to the last digit: ours is kept by its softplus
    x = torch.randn(2, 3, 5, 4, dtype=torch.float64, requires_grad=True)
    ours, other = head.pool(x), theirs(x)
    torch.testing.assert_close(ours, other)
    slope = torch.randn_like(ours)
    gradients = [torch.autograd.grad(y, x, slope, retain_graph=True)[0] for y in (ours, other)]
    torch.testing.assert_close(*gradients)
    if learnable:
        (by_rho,) = torch.autograd.grad(ours, head.rho, slope)
        (inner,) = torch.autograd.grad(head.sharpness.sum(), head.rho)
        (by_r,) = torch.autograd.grad(other, theirs.r, slope)
        torch.testing.assert_close((by_rho / inner).squeeze(), by_r)


@given(st.floats(0.02, 100))
def test_it_starts_where_it_was_asked_to(sharpness):
    torch.testing.assert_close(make(sharpness=sharpness).sharpness.item(), sharpness, rtol=1e-4, atol=0)


@pytest.mark.parametrize(
    ("options", "shape"), [({}, (1,)), ({"per_channel": True}, (3,)), ({"learnable": False}, None)]
)
def test_sharpness_starts_at_ten_as_one_number_or_one_a_channel(options, shape):
    head = make(**options)
    own = [tuple(p.shape) for name, p in head.named_parameters() if not name.startswith("classifier")]
    assert own == ([] if shape is None else [shape])
    torch.testing.assert_close(torch.as_tensor(head.sharpness).detach(), torch.full(shape or (), 10.0))


def test_near_ten_it_moves_as_the_sharpness_itself_would():
    head = make()
    head.sharpness.sum().backward()
    assert head.rho.grad.item() == pytest.approx(1, abs=1e-4)


def test_it_lies_between_the_global_average_and_the_global_maximum():
    x = torch.randn(2, 3, 5, 4)
    average, most = (create_head(name, channels=3, num_classes=2).pool(x) for name in ("global_average", "global_max"))
    torch.testing.assert_close(make(sharpness=0.011).pool(x), average, rtol=0, atol=0.02)
    torch.testing.assert_close(make(sharpness=1e4).pool(x), most, rtol=0, atol=1e-3)
    y = make(sharpness=2.0).pool(x)
    assert (average < y).all()
    assert (y < most).all()


def test_a_constant_map_is_kept_and_a_number_added_to_a_channel_is_added_to_its_result():
    head, level = make(), torch.randn(2, 3, 1, 1)
    assert torch.equal(head.pool(level.expand(2, 3, 5, 4)), level[:, :, 0, 0])
    x = torch.randn(2, 3, 5, 4)
    torch.testing.assert_close(head.pool(x + level), head.pool(x) + level[:, :, 0, 0])


@pytest.mark.parametrize("options", [{}, {"per_channel": True}], ids=str)
@pytest.mark.parametrize("direction", [1, -1])
def test_sharpness_stays_positive_and_the_mean_finite_however_far_it_is_pushed(options, direction):
    head, x = make(**options), torch.rand(2, 3, 4, 5)
    with torch.no_grad():
        head.rho.add_(direction * 1e4)
    y = head.pool(x.requires_grad_())
    y.sum().backward()
    assert (head.sharpness > 0).all()
    assert (y >= x.mean((2, 3)) - 1e-3).all()
    assert (y <= x.flatten(2).amax(2) + 1e-3).all()
    assert x.grad.isfinite().all()
    assert head.rho.grad.isfinite().all()
    head.reset_parameters()
    torch.testing.assert_close(head.sharpness.detach(), torch.full_like(head.rho, 10.0))


@pytest.mark.parametrize("scale", [0.0, 1e-30, 1e30])
def test_extreme_maps_give_finite_values_and_gradients(scale):
    x = (torch.randn(2, 3, 4, 4) * scale).requires_grad_()
    head = make()
    y = head.pool(x)
    y.sum().backward()
    assert y.isfinite().all()
    assert x.grad.isfinite().all()
    assert head.rho.grad.isfinite().all()


@pytest.mark.parametrize("per_channel", [False, True])
def test_weight_decay_spares_the_sharpness(per_channel):
    model = create_model(
        "convnet", head=lambda **a: create_head("log_sum_exp", per_channel=per_channel, **a), widths=(4,), depths=(1,)
    )
    (optimizer,) = sgd(model, weight_decay=0.1).optimizers
    decays = {id(p): group["weight_decay"] for group in optimizer.param_groups for p in group["params"]}
    assert decays[id(model.head.rho)] == 0


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"sharpness": 0}, "LogSumExp: sharpness must be a number above 0.01, got 0"),
        ({"sharpness": math.inf}, "sharpness must be"),
        ({"sharpness": True}, "sharpness must be"),
        ({"learnable": "channel"}, "learnable must be true or false, got 'channel'"),
        ({"per_channel": 1}, "per_channel must be true or false, got 1"),
        ({"per_channel": True, "learnable": False}, "per_channel must be false where learnable is"),
    ],
    ids=str,
)
def test_errors_name_the_option(options, words):
    with pytest.raises(ValueError, match=words):
        make(**options)


def test_flops():
    # peak, difference, product, exponential, addition; division, logarithm, division, sum
    assert make().flops((4, 5)) == 3 * (19 + 3 * 20 + 19 + 4)
