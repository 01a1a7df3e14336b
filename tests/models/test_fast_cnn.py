"""What is special to the net that learns fast: its first layer, and where its pools stand."""

import math

import pytest
import torch
import torch.nn.functional as F
import yaml
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from poolbench import create_model
from poolbench.models.sites import is_site
from poolbench.pooling import POOLS
from poolbench.training.optimizers import muon
from tests.width import ALL

MIRRORED = ("max", "overlapping", "strided_conv", "fractional_max", "lip", "spectral")  # in the quick suite


def make(pool="native", head="native", **options):
    return create_model("fast_cnn", pool, head, **{"widths": (4, 6, 8), **options})


@pytest.fixture(scope="module")
def images():
    """Smooth pictures with little colour: patches that are anything but white. (64, 3, 12, 12)."""
    torch.manual_seed(0)
    grey = F.avg_pool2d(torch.randn(64, 1, 14, 14), 3, stride=1)
    return grey + 0.1 * torch.randn(64, 3, 12, 12)


def patches(first, images):
    return first(images).transpose(0, 1).flatten(1)


def test_the_first_layer_whitens_patches(images):
    model = make()
    first = model.features.stem.conv
    model.prepare(images)
    seen = patches(first, images)
    half = len(seen) // 2
    torch.testing.assert_close(seen[:half], -seen[half:])  # each with both signs
    second_moment = seen[:half] @ seen[:half].T / seen.shape[1]
    off = second_moment - torch.diag(second_moment.diagonal())
    assert off.abs().max() < 1e-3
    # The variance v of a direction becomes v / (v + 5e-4).
    inputs = F.unfold(images, 2).transpose(0, 1).flatten(1)
    variances = torch.linalg.eigvalsh(inputs @ inputs.T / inputs.shape[1])
    torch.testing.assert_close(second_moment.diagonal(), variances / (variances + 5e-4), rtol=1e-3, atol=1e-3)


def test_the_first_layer_is_not_trained_but_its_bias_is(images):
    model = make()
    model.prepare(images)
    assert not model.features.stem.conv.weight.requires_grad
    model(torch.randn(4, 3, 32, 32)).square().sum().backward()
    assert model.features.stem.conv.weight.grad is None
    assert model.features.stem.conv.bias.grad.abs().sum() > 0


def test_without_whitening_it_is_drawn_and_trained(images):
    model = make(whiten=False)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    model.prepare(images)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert model.features.stem.conv.weight.requires_grad


def test_preparing_draws_nothing_and_says_the_same_whatever_the_seed(images):
    first, second = make(seed=0), make(seed=1)
    state = torch.get_rng_state()
    first.prepare(images)
    second.prepare(images)
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(first.features.stem.conv.weight, second.features.stem.conv.weight)
    assert not torch.equal(first.features.stage1.conv1.weight, second.features.stage1.conv1.weight)


def test_a_pool_stands_before_the_first_normalisation_of_each_stage():
    model = make(pool="average")
    for stage in (model.features.stage1, model.features.stage2, model.features.stage3):
        names = [name for name, _ in stage.named_children()]
        assert names == ["conv1", "pool1", "norm1", "gelu1", "conv2", "norm2", "gelu2"]
    wide = make(pool=lambda channels: _Halves(math.sqrt(2)))
    names = [name for name, _ in wide.features.stage1.named_children()]
    assert names == ["conv1", "pool1", "norm1", "gelu1", "conv2", "pool2", "norm2", "gelu2"]


@pytest.mark.parametrize(
    ("mirror", "pool"),
    [*((False, pool) for pool in POOLS.table), *((True, pool) for pool in (POOLS.table if ALL else MIRRORED))],
)
def test_every_pool_takes_a_step_at_every_size_of_the_recipe(pool, mirror, repo_root):
    recipe = yaml.safe_load((repo_root / "conf/trainer/fast.yaml").read_text())
    model = make(pool, mirror=mirror).to(memory_format=torch.channels_last)
    optimizers = muon(model, lr=0.12)
    before = {name: p.detach().clone() for name, p in model.named_parameters() if p.requires_grad}
    for side in sorted(set(recipe["sizes"])):
        x = torch.randn(8, 3, side, side).to(memory_format=torch.channels_last)
        loss, _ = model.loss(x, torch.randint(10, (8,)), recipe["label_smoothing"])
        assert loss.isfinite()
        loss.backward()
        optimizers.gather()
        for optimizer in optimizers.optimizers:
            optimizer.step()
        optimizers.zero_grad()
    after = dict(model.named_parameters())
    assert all(after[name].isfinite().all() for name in before)
    assert not any(torch.equal(after[name], before[name]) for name in before if "conv" in name and "pool" not in name)


@pytest.mark.parametrize("pool", ["max", "average", "lp", "blur_max"])
def test_a_mirrored_net_answers_the_same_to_a_mirror_image_after_training_too(pool, images):
    x, labels = images, torch.arange(len(images)) % 10
    x = F.interpolate(x, (17, 17))  # 16, 8, 4, 2 after the first layer and each pool: nothing is cut off
    differences = {}
    for mirror in (True, False):
        model = make(pool, mirror=mirror).to(memory_format=torch.channels_last)
        model.prepare(x)
        optimizers = muon(model, lr=0.12)
        for _ in range(2):
            model.loss(x, labels)[0].backward()
            optimizers.gather()
            for optimizer in optimizers.optimizers:
                optimizer.step()
            optimizers.zero_grad()
        model.eval()
        with torch.no_grad():
            differences[mirror] = (model(x) - model(x.flip(3))).abs().max() / model(x).std()
            if mirror:
                torch.testing.assert_close(model.features(x.flip(3)), model.features(x).flip(3), rtol=1e-3, atol=1e-3)
    assert differences[True] < 1e-3 < 0.05 < differences[False]


def test_the_first_layer_of_a_mirrored_net_whitens_patches_of_images_and_mirror_images(images):
    model = make(mirror=True)
    first = model.features.stem.conv
    model.prepare(images)
    seen = patches(first, torch.cat([images, images.flip(3)]))
    torch.testing.assert_close(seen[:6], -seen[6:12])  # symmetric filters, then the others, each with both signs
    torch.testing.assert_close(seen[12:18], -seen[18:])
    seen = torch.cat([seen[:6], seen[12:18]])
    second_moment = seen @ seen.T / seen.shape[1]
    assert (second_moment - torch.diag(second_moment.diagonal())).abs().max() < 1e-3
    inputs = F.unfold(torch.cat([images, images.flip(3)]), 2).transpose(0, 1).flatten(1)
    variances = torch.linalg.eigvalsh(inputs @ inputs.T / inputs.shape[1])
    shares = second_moment.diagonal().sort().values
    torch.testing.assert_close(shares, variances / (variances + 5e-4), rtol=1e-3, atol=1e-3)


def test_a_mirrored_net_has_half_the_filters_and_half_the_multiplications():
    size, flops = {}, {}
    for mirror in (False, True):
        model = make(widths=(48, 96, 192), mirror=mirror)
        size[mirror] = sum(p.numel() for p in model.features.parameters() if p.dim() > 1 and p.requires_grad)
        with FlopCounterMode(display=False) as counter:
            model.eval()(torch.zeros(1, 3, 32, 32))
        flops[mirror] = counter.get_total_flops()
    assert 2 * size[True] == size[False]
    assert 0.5 < flops[True] / flops[False] < 0.51  # all but the first layer's


@pytest.mark.parametrize(("depth", "convolutions"), [(1, 4), (3, 10)])
def test_depth_counts_the_convolutions_of_a_stage(depth, convolutions):
    model = make(depth=depth)
    assert sum(isinstance(m, nn.Conv2d) for m in model.features.modules()) == convolutions
    assert sum(is_site(m) for m in model.modules()) == 3


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"depth": 0}, "depth must be a whole number of at least 1, got 0"),
        ({"whiten": 1}, "whiten must be"),
        ({"mirror": "yes"}, "mirror must be"),
        ({"mirror": True, "whiten": False}, "mirror=true needs whiten=true"),
        ({"mirror": True, "widths": (4, 5, 8)}, r"widths must be even with mirror=true, got \[4, 5, 8\]"),
    ],
)
def test_values_that_are_not_allowed_are_named(options, words):
    with pytest.raises(ValueError, match=f"model fast_cnn: {words}"):
        make(**options)


class _Halves(nn.Module):
    """Stands for a pool of another ratio."""

    def __init__(self, ratio):
        super().__init__()
        self.ratio = ratio

    def forward(self, x):
        return F.adaptive_avg_pool2d(x, [max(1, round(side / self.ratio)) for side in x.shape[-2:]])
