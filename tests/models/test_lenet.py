import pytest
import torch
from torch import nn

from poolbench import create_model
from poolbench.models.lenet import TrainedSubsampling
from poolbench.models.sites import is_site, map_sizes


def _parameters(module):
    return sum(p.numel() for p in module.parameters())


def _layers(stage):
    return [(name, type(layer).__name__) for name, layer in stage.named_children()]


def test_the_usual_form_has_the_layers_and_parameters_of_its_definition():
    model = create_model("lenet")
    assert _parameters(model) == 62_006
    assert _layers(model.features.stage1) == [("conv", "Conv2d"), ("activation", "ReLU"), ("pool1", "MaxPool2d")]
    assert map_sizes(model.features, (32, 32)) == [
        ("stage1.pool1", (14, 14)),
        ("stage2.pool1", (5, 5)),
        ("last map", (5, 5)),
    ]
    assert [layer.weight.shape for layer in model.modules() if isinstance(layer, nn.Conv2d)] == [
        (6, 3, 5, 5),
        (16, 6, 5, 5),
    ]
    linear = [layer for layer in model.head.modules() if isinstance(layer, nn.Linear)]
    assert [layer.weight.shape for layer in linear] == [(120, 400), (84, 120), (10, 84)]


def test_lenet5_has_trained_pools_and_a_tanh_after_every_layer():
    model = create_model("lenet", variant="lenet5")
    # That of the usual form and 2 more for each of 6 and 16 channels.
    assert _parameters(model) == 62_006 + 2 * (6 + 16)
    assert [_parameters(m) for m in model.modules() if isinstance(m, TrainedSubsampling)] == [12, 32]
    convolution, activation = ("conv", "Conv2d"), ("activation", "ScaledTanh")
    pooled = [convolution, activation, ("pool1", "TrainedSubsampling"), ("pool_activation", "ScaledTanh")]
    dense = [convolution, activation]
    assert [_layers(stage) for stage in model.features] == [pooled, pooled, dense, dense]
    *_, last = map_sizes(model.features, (32, 32))
    assert last == ("last map", (1, 1))
    # The counts that the paper gives where neither table nor colour matters.
    assert _parameters(model.features.stage3) == 48_120
    assert _parameters(model.features.stage4) == 10_164


def test_a_grey_image_gives_what_the_net_of_1998_gives():
    """Layer by layer as the paper describes them, S2 and S4 as a sum, a coefficient and a summand."""
    model = create_model("lenet", variant="lenet5", seed=1)
    pools = [m for m in model.modules() if is_site(m)]
    for pool in pools:
        nn.init.normal_(pool.weight)
        nn.init.normal_(pool.bias)

    def squash(x):
        return 1.7159 * torch.tanh(x * 2 / 3)

    x = maps = torch.randn(2, 3, 32, 32)
    convolutions = [m for m in model.features.modules() if isinstance(m, nn.Conv2d)]
    for convolution, pool in zip(convolutions, [*pools, None, None], strict=True):
        maps = squash(convolution(maps))
        if pool is not None:
            sums = sum(maps[..., i::2, j::2] for i in (0, 1) for j in (0, 1))
            maps = squash(sums * (pool.weight / 4)[:, None, None] + pool.bias[:, None, None])
    torch.testing.assert_close(model(x), model.head.classifier(maps.flatten(1)))


def test_the_activation_keeps_one_and_minus_one():
    activation = create_model("lenet", variant="lenet5").features.stage1.activation
    torch.testing.assert_close(activation(torch.tensor([-1.0, 0, 1])), torch.tensor([-1.0, 0, 1]), rtol=0, atol=1e-4)


def test_trained_subsampling_starts_as_the_average_and_learns():
    pool, x = TrainedSubsampling(3), torch.randn(2, 3, 7, 6)
    torch.testing.assert_close(pool(x), nn.functional.avg_pool2d(x, 2))
    pool(x).square().sum().backward()
    assert all(p.grad.abs().min() > 0 for p in pool.parameters())
    assert pool.flops((8, 6)) == 3 * (4 * 3) * (4 + 2)


@pytest.mark.parametrize("variant", ["1998", 1998, "LeNet5", None])
def test_errors_name_the_option(variant):
    with pytest.raises(ValueError, match="model lenet: variant must be 'cifar' or 'lenet5', got"):
        create_model("lenet", variant=variant)
