import copy

import pytest
import torch
from torch import nn

from poolbench.pooling.parts.guide import Guide

BATCH = (5, 4, 6, 7)


def author(guide):
    """The same in the author's layers: 1x1 convolutions of the means as maps of one pixel."""

    def convolution(linear):
        conv = nn.Conv2d(linear.in_features, linear.out_features, 1, bias=False)
        with torch.no_grad():
            conv.weight.copy_(linear.weight[:, :, None, None])
        return conv

    hidden = nn.Sequential(nn.AdaptiveAvgPool2d(1), convolution(guide.hidden), nn.BatchNorm2d(3), nn.ReLU())
    return hidden, [nn.Sequential(convolution(one), nn.BatchNorm2d(4)) for one in guide.layers]


def test_it_gives_what_the_authors_layers_give_and_keeps_the_same_statistics():
    guide = Guide(4, 3, 2)
    hidden, branches = author(guide)
    for training in (True, True, False):
        x = torch.randn(BATCH)
        for module in (guide, hidden, *branches):
            module.train(training)
        z = hidden(x)
        for ours, branch in zip(guide(x), branches, strict=True):
            assert ours.shape == (5, 4, 1, 1)
            torch.testing.assert_close(ours, branch(z))


def test_in_training_batches_are_normalised():
    guide = Guide(4, 3, 1)
    (y,) = guide(torch.randn(BATCH))
    torch.testing.assert_close(y.mean(0), torch.zeros(4, 1, 1), atol=1e-6, rtol=0)
    assert (y.std(0, correction=0) > 0.5).all()


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32])
def test_a_single_image_is_normalised_as_in_evaluation(dtype):
    guide = Guide(4, 3, 2)
    guide(torch.randn(BATCH))
    guide, x = guide.to(dtype), torch.randn(1, 4, 6, 7).to(dtype)
    before = copy.deepcopy(guide.state_dict())
    trained = guide.train()(x)
    for one, other in zip(trained, guide.eval()(x), strict=True):
        assert torch.equal(one, other)
    assert all(torch.equal(value, before[name]) for name, value in guide.state_dict().items())


def test_in_half_precision_statistics_move_as_in_full():
    guide = Guide(4, 3, 1).half()
    full = copy.deepcopy(guide).float()
    for _ in range(3):
        x = torch.randn(BATCH).half()
        (y,), (known,) = guide(x), full(x.float())
        assert y.dtype == torch.float32
        torch.testing.assert_close(y, known, atol=0.02, rtol=0.02)
    for name, value in guide.state_dict().items():
        torch.testing.assert_close(value.float(), full.state_dict()[name].float(), atol=0.02, rtol=0.02)
    assert guide.hidden_norm.num_batches_tracked == 3
