"""Optimisers: who decays, who is orthogonalised, and that Muon trains the filters themselves."""

import copy
import inspect
import math

import pytest
import torch
from torch import nn

from poolbench import create_model, create_pool
from poolbench.training.optimizers import FilterMuon, Optimizers, _orthogonalised, adamw, muon, sgd


def small_model(memory_format=torch.channels_last, pool="strided_conv"):
    model = create_model("convnet", pool=pool, widths=(4, 6), depths=(1, 1), input_size=(16, 16), seed=0)
    return model.to(memory_format=memory_format)


def draw_gradients(model, seed=0):
    generator = torch.Generator().manual_seed(seed)
    for parameter in model.parameters():
        parameter.grad = torch.randn(parameter.shape, generator=generator).to(
            memory_format=torch.channels_last if parameter.dim() == 4 else torch.contiguous_format
        )


def step(model, optimizers, seed=0, scaler=None):
    draw_gradients(model, seed)
    if scaler is not None:
        for parameter in model.parameters():
            parameter.grad *= scaler.scale(torch.ones(()))
    optimizers.gather()
    for optimizer in optimizers.optimizers:
        optimizer.step() if scaler is None else scaler.step(optimizer)
    if scaler is not None:
        scaler.update()
    optimizers.zero_grad()


def weights(model):
    return {name: parameter.detach().clone() for name, parameter in model.named_parameters()}


def same(first, second):
    return first.keys() == second.keys() and all(torch.equal(first[key], second[key]) for key in first)


def is_filter(parameter):
    return parameter.dim() == 4 and parameter.shape[1] > 1


@pytest.mark.parametrize("make", [sgd, adamw, muon])
def test_every_parameter_is_held_once_and_every_step_moves_it(make):
    model = small_model()
    optimizers = make(model)
    held = [p for optimizer in optimizers.optimizers for group in optimizer.param_groups for p in group["params"]]
    assert sum(p.numel() for p in held) == sum(p.numel() for p in model.parameters())
    assert len({p.data_ptr() for p in held}) == len(held) == len(list(model.parameters()))
    before = weights(model)
    step(model, optimizers)
    for name, parameter in model.named_parameters():
        assert not torch.equal(parameter, before[name]), name
        assert parameter.grad is None


@pytest.mark.parametrize(
    ("make", "option"), [(sgd, "weight_decay"), (adamw, "weight_decay"), (muon, "rest_weight_decay")]
)
def test_weights_decay_and_biases_normalisations_and_single_numbers_do_not(make, option):
    model = small_model()
    model.single = nn.Parameter(torch.ones(1))
    optimizers = make(model, **{option: 0.03})
    decay = {}
    for optimizer in optimizers.optimizers:
        for group in optimizer.param_groups:
            decay |= {parameter.data_ptr(): group["weight_decay"] for parameter in group["params"]}
    for name, parameter in model.named_parameters():
        wanted = 0.03 if parameter.dim() > 1 else 0.0
        if make is muon and is_filter(parameter):
            wanted = 0.0
        assert decay[parameter.data_ptr()] == wanted, name


@pytest.mark.parametrize(
    ("make", "option"), [(sgd, "weight_decay"), (adamw, "weight_decay"), (muon, "rest_weight_decay")]
)
def test_what_a_pool_holds_itself_does_not_decay(make, option):
    class Weighted(nn.Module):
        ratio = 2.0

        def __init__(self, channels):
            super().__init__()
            self.cells = nn.Parameter(torch.full((channels, 1, 2, 2), 0.25))
            self.conv = nn.Conv2d(channels, channels, 1, bias=False)

        def forward(self, x):
            return self.conv(nn.functional.conv2d(x, self.cells, stride=2, groups=x.shape[1]))

    model = small_model(pool=Weighted)
    optimizers = make(model, **{option: 0.03})
    decay = {
        parameter: group["weight_decay"]
        for optimizer in optimizers.optimizers
        for group in optimizer.param_groups
        for parameter in group["params"]
    }
    pool = model.features.stage1.pool1
    assert decay[pool.cells] == 0
    assert decay[pool.conv.weight] == 0.03  # under Muon too: no normalisation follows it


def test_muon_takes_the_filters_of_a_pool_only_beside_a_normalisation():
    for norm in (True, False):
        model = small_model(pool=lambda channels, norm=norm: create_pool("strided_conv", channels=channels, norm=norm))
        optimizers = muon(model)
        filters = optimizers.optimizers[0].filters
        inside = [p for p in model.features.stage1.pool1.parameters() if p.dim() == 4]
        assert len(inside) == 1
        assert any(p is inside[0] for p in filters) == norm
        assert any(p is model.features.stage2.conv1.weight for p in filters)


def test_muon_takes_the_filters_of_a_head_only_beside_a_normalisation():
    for head, taken in (("capsule", False), ("bilinear", True)):
        model = create_model("convnet", "max", head, widths=(4, 6), depths=(1, 1), input_size=(16, 16))
        model = model.to(memory_format=torch.channels_last)
        filters = {p for p in model.head.parameters() if p.dim() == 4}
        assert filters
        held = set(muon(model).optimizers[0].filters)
        assert (filters <= held) is taken
        assert (filters.isdisjoint(held)) is not taken


def test_frozen_parameters_stay_as_they_are():
    for make in (sgd, adamw, muon):
        model = small_model()
        for parameter in (model.features.stage1.conv1.weight, model.features.stage1.norm1.weight):
            parameter.requires_grad_(False)
        before = weights(model)
        optimizers = make(model)
        step(model, optimizers)
        for name, parameter in model.named_parameters():
            assert torch.equal(parameter, before[name]) == (not parameter.requires_grad), (make, name)


def test_scaling_is_of_the_rate_that_was_chosen_and_not_of_the_last_one():
    model = small_model()
    optimizers = muon(model, lr=0.2, rest_lr=0.1)
    assert optimizers.lr == 0.2
    for factor in (0.5, 0.5, 0.0, 1.0):
        optimizers.scale(factor)
        assert optimizers.lr == pytest.approx(0.2 * factor)
        assert optimizers.optimizers[-1].param_groups[0]["lr"] == pytest.approx(0.1 * factor)
    before = weights(model)
    optimizers.scale(0.0)
    step(model, sgd(model, lr=1e-9, weight_decay=0.0))
    assert not same(weights(model), before)
    optimizers = sgd(model)
    optimizers.scale(0.0)
    before = weights(model)
    step(model, optimizers)
    assert same(weights(model), before)


def test_nesterov_without_momentum_is_plain_descent():
    model = small_model()
    before = weights(model)
    step(model, sgd(model, lr=0.1, momentum=0.0, weight_decay=0.0))
    draw_gradients(model)
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(parameter.detach(), before[name] - 0.1 * parameter.grad)


# --- Muon


@pytest.mark.parametrize("bfloat16", [True, False], ids=["bfloat16", "float32"])
@pytest.mark.parametrize("rescale", [True, False])
@pytest.mark.parametrize("momentum", [0.0, 0.6])
def test_muon_does_to_filters_what_torchs_does_to_their_matrices(rescale, momentum, bfloat16, monkeypatch):
    monkeypatch.setattr("poolbench.training.optimizers.cpu_has_bfloat16", lambda: bfloat16)
    model = small_model()
    names = [name for name, parameter in model.named_parameters() if is_filter(parameter)]
    assert len(names) == 4
    matrices = {
        name: nn.Parameter(model.get_parameter(name).detach().permute(0, 2, 3, 1).reshape(len(p), -1).clone())
        for name, p in ((name, model.get_parameter(name)) for name in names)
    }
    options = {"lr": 0.1, "weight_decay": 0.02, "momentum": momentum, "nesterov": True}
    reference = torch.optim.Muon(matrices.values(), ns_steps=3, **options)
    optimizers = muon(model, steps=3, rescale=rescale, **options)
    for seed in range(3):
        draw_gradients(model, seed)
        for name, matrix in matrices.items():
            matrix.grad = model.get_parameter(name).grad.permute(0, 2, 3, 1).reshape(matrix.shape)
            if rescale:
                with torch.no_grad():
                    matrix.mul_(math.sqrt(len(matrix)) / matrix.norm())
        reference.step()
        step(model, optimizers, seed)
        for name, matrix in matrices.items():
            actual = model.get_parameter(name).permute(0, 2, 3, 1).reshape(matrix.shape)
            # Where products are summed in another order, a number may be rounded to the next in bfloat16.
            torch.testing.assert_close(actual, matrix, rtol=0, atol=0 if bfloat16 else 0.1 * 2**-8, msg=name)
    taken, theirs = (list(one.state.values()) for one in (optimizers.optimizers[0], reference))
    assert [list(state) for state in taken] == [list(state) for state in theirs]  # one's checkpoint is the other's


@pytest.mark.parametrize("shape", [(3, 3), (4, 3), (3, 4), (48, 216), (300, 100)])
@pytest.mark.parametrize("steps", [1, 3])
def test_a_cpu_without_bfloat16_gets_the_same_numbers(shape, steps):
    taken = nn.Parameter(torch.zeros(shape))
    taken.grad = torch.randn(shape) * torch.logspace(-2, 0, shape[1])
    torch.optim.Muon([taken], lr=1.0, weight_decay=0.0, momentum=0.0, nesterov=False, ns_steps=steps).step()
    expected = -taken.detach() / math.sqrt(max(1, shape[0] / shape[1]))
    actual = _orthogonalised(taken.grad, (3.4445, -4.775, 2.0315), steps, 1e-7)
    assert torch.equal(actual, actual.bfloat16().float())
    # Without rounding it would be 0.005 and more apart.
    assert (actual - expected).norm() < 0.002 * expected.norm()


def test_muons_update_is_nearly_orthogonal_in_the_filters_and_plain_descent_elsewhere():
    model = small_model()
    before = weights(model)
    step(model, muon(model, lr=1.0, momentum=0.0, steps=5, rescale=False, rest_lr=0.5, rest_momentum=0.0))
    draw_gradients(model)
    for name, parameter in model.named_parameters():
        update = (before[name] - parameter.detach()).flatten(1) if parameter.dim() > 1 else before[name] - parameter
        if is_filter(parameter):
            values = torch.linalg.svdvals(update / math.sqrt(max(1, len(update) / update.shape[1])))
            assert values.min() > 0.4, name
            assert values.max() < 1.4, name
        elif parameter.dim() == 1:
            torch.testing.assert_close(update, 0.5 * parameter.grad)


def test_rescaling_brings_filters_to_one_norm_whatever_they_grew_to():
    model = small_model()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(7)
    optimizers = muon(model, rescale=True)
    optimizers.scale(0.0)
    step(model, optimizers)
    for parameter in filter(is_filter, model.parameters()):
        assert parameter.norm().item() == pytest.approx(math.sqrt(len(parameter)), rel=1e-5)


def test_muon_refuses_filters_that_it_cannot_train_in_place():
    with pytest.raises(ValueError, match=r"trainer\.channels_last=true"):
        muon(small_model(torch.contiguous_format))
    assert FilterMuon([nn.Parameter(torch.randn(4, 3, 1, 1))], 0.1, 0.0, 0.6, True, 3, True).matrices[0].shape == (4, 3)


def test_muon_takes_gradients_of_any_layout():
    models = [small_model() for _ in range(2)]
    for model, layout in zip(models, (torch.channels_last, torch.contiguous_format), strict=True):
        optimizers = muon(model)
        draw_gradients(model)
        for parameter in filter(is_filter, model.parameters()):
            parameter.grad = parameter.grad.contiguous(memory_format=layout)
        optimizers.gather()
        for optimizer in optimizers.optimizers:
            optimizer.step()
    assert same(weights(models[0]), weights(models[1]))


def test_depthwise_filters_and_models_without_filters_are_left_to_plain_descent():
    model = nn.Sequential(nn.Conv2d(4, 4, 3, groups=4), nn.Flatten(), nn.Linear(4, 2))
    optimizers = muon(model, rest_lr=0.3)
    assert [type(optimizer) for optimizer in optimizers.optimizers] == [torch.optim.SGD]
    assert optimizers.lr == 0.3


def test_muon_goes_through_a_gradient_scaler_as_without_one():
    plain, scaled = small_model(), small_model()
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**12)
    first, second = muon(plain), muon(scaled)
    for seed in range(2):
        step(plain, first, seed)
        step(scaled, second, seed, scaler)
    assert same(weights(plain), weights(scaled))  # the scale is a power of two
    draw_gradients(scaled)
    for parameter in scaled.parameters():
        parameter.grad[(0,) * parameter.dim()] = math.inf
    second.gather()
    before = weights(scaled)
    for optimizer in second.optimizers:
        scaler.step(optimizer)
    scaler.update()
    assert same(weights(scaled), before)
    assert scaler.get_scale() == 2.0**11


@pytest.mark.parametrize("make", [sgd, adamw, muon])
def test_taken_up_again_an_optimiser_goes_on_the_same(make):
    model = small_model()
    optimizers = make(model)
    step(model, optimizers, 0)
    optimizers.scale(0.5)
    step(model, optimizers, 1)
    state = copy.deepcopy((model.state_dict(), optimizers.state_dict()))
    other = small_model(pool="strided_conv")
    resumed = make(other)
    other.load_state_dict(state[0])
    resumed.load_state_dict(state[1])
    assert resumed.lr == optimizers.lr
    for seed in (2, 3):
        for each, one in ((model, optimizers), (other, resumed)):
            one.scale(0.25)
            step(each, one, seed)
    assert same(weights(model), weights(other))
    with pytest.raises(ValueError, match="zip"):
        resumed.load_state_dict([*state[1], {}])


# --- options


BAD = {
    "lr": [0, -1, math.nan, math.inf, "0.1", None, True],
    "rest_lr": [0, -1],
    "momentum": [-0.1, 1, 1.5, math.nan, "x", True],
    "rest_momentum": [1],
    "weight_decay": [-1e-9, math.nan, math.inf, None],
    "rest_weight_decay": [-1],
    "nesterov": ["false", 0, None],
    "rescale": ["false", 1],
    "steps": [0, 100, 2.0, True, "3"],
    "betas": [[0.9], [0.9, 1.0], [-0.1, 0.9], 0.9, None, ["a", "b"], [0.9, 0.99, 0.999]],
}


@pytest.mark.parametrize(
    ("make", "option"),
    [
        (make, option)
        for make in (sgd, adamw, muon)
        for option in inspect.signature(make).parameters
        if option != "model"
    ],
)
def test_an_option_that_is_not_allowed_is_named(make, option):
    model = small_model()
    for value in BAD[option]:
        with pytest.raises(ValueError, match=rf"optimizer\.{option} must be .*, got "):
            make(model, **{option: value})


def test_an_optimiser_without_parameters_is_left_out():
    parameter = nn.Parameter(torch.ones(2))
    empty = torch.optim.SGD([{"params": []}], lr=0.1)
    empty.param_groups.clear()
    assert len(Optimizers(torch.optim.SGD([parameter], lr=0.1), empty).optimizers) == 1
