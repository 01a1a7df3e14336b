"""Layers that treat an image and its mirror image alike: complete, and the same as slower ways to compute them."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from poolbench.models.mirrored import MirroredConv2d, MirroredNorm2d, MirroredPatches2d, MirroredSum


def mirrored(x, alone=0):
    """What the map ``x`` of an image would be for its mirror image."""
    pairs = (x.shape[1] - alone) // 2
    return torch.cat([x[:, :alone], x[:, alone + pairs :], x[:, alone : alone + pairs]], dim=1).flip(3)


def filters_of(conv):
    """The filters ``(2 * out, alone + 2 * pairs, 3, 3)`` of a usual convolution that does the same."""
    channels = conv.alone + 2 * conv.pairs
    impulses = torch.eye(9 * channels, dtype=conv.even.dtype).reshape(-1, channels, 3, 3)
    answers = conv(F.pad(impulses, (1, 1, 1, 1)))[:, :, 2, 2]  # what the centre sees of each
    return answers.T.reshape(-1, channels, 3, 3)


@pytest.mark.parametrize(("alone", "pairs", "out"), [(0, 3, 2), (4, 3, 2), (3, 0, 2), (0, 1, 1)])
def test_the_filters_are_all_that_keep_the_symmetry_and_no_others(alone, pairs, out):
    torch.manual_seed(0)
    conv = MirroredConv2d(alone, pairs, out).double()
    any_kernel = torch.randn(2 * out, alone + 2 * pairs, 3, 3, dtype=torch.float64)
    # If weights keep lengths, the adjoint and then the kernel project any filters to those that can be had.
    weights = torch.autograd.grad((filters_of(conv) * any_kernel).sum(), [conv.even, conv.odd])
    with torch.no_grad():
        for own, value in zip((conv.even, conv.odd), weights, strict=True):
            own.copy_(value)
    counterpart = mirrored(any_kernel, alone).roll(out, dims=0)
    torch.testing.assert_close(filters_of(conv), (any_kernel + counterpart) / 2)


@pytest.mark.parametrize("size", [(1, 1), (3, 1), (1, 2), (4, 5), (5, 4)])
@pytest.mark.parametrize("memory", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize(("alone", "pairs"), [(0, 3), (2, 2), (6, 0)])
def test_it_is_the_convolution_with_those_filters_everywhere(size, memory, alone, pairs):
    torch.manual_seed(0)
    conv = MirroredConv2d(alone, pairs, 4).double()
    x = torch.randn(2, 6, *size, dtype=torch.float64).to(memory_format=memory)
    torch.testing.assert_close(conv(x), F.conv2d(x, filters_of(conv), padding=1))


@pytest.mark.parametrize(("alone", "pairs"), [(0, 2), (2, 1)])
def test_gradients_in_float64(alone, pairs):
    torch.manual_seed(0)
    conv = MirroredConv2d(alone, pairs, 2).double()
    x = torch.randn(1, 4, 3, 3, dtype=torch.float64, requires_grad=True)

    def of(x, even, odd):
        return torch.func.functional_call(conv, {"even": even, "odd": odd}, (x,))

    assert torch.autograd.gradcheck(of, (x, conv.even.detach().requires_grad_(), conv.odd.detach().requires_grad_()))


@pytest.mark.parametrize(("alone", "pairs"), [(0, 4), (4, 2), (3, 0)])
def test_the_map_of_a_mirror_image_is_the_mirrored_map(alone, pairs):
    torch.manual_seed(0)
    conv = MirroredConv2d(alone, pairs, 3).double()
    x = torch.randn(2, alone + 2 * pairs, 4, 5, dtype=torch.float64)
    torch.testing.assert_close(conv(mirrored(x, alone)), mirrored(conv(x)))


def test_half_the_weights_and_half_the_multiplications_of_a_usual_convolution():
    ours, usual = MirroredConv2d(0, 4, 6), nn.Conv2d(8, 12, 3, padding=1, bias=False)
    assert 2 * sum(p.numel() for p in ours.parameters()) == usual.weight.numel()
    flops = []
    for conv in (ours, usual):
        with FlopCounterMode(display=False) as counter:
            conv(torch.zeros(1, 8, 5, 5))
        flops.append(counter.get_total_flops())
    assert 2 * flops[0] == flops[1]


def test_weights_are_drawn_as_those_of_a_usual_convolution():
    torch.manual_seed(0)
    ours, usual = filters_of(MirroredConv2d(0, 32, 32)), nn.Conv2d(64, 64, 3).weight
    torch.testing.assert_close(ours.var(), usual.var(), rtol=0.05, atol=0)


@pytest.mark.parametrize("memory", [torch.contiguous_format, torch.channels_last])
def test_the_normalisation_sees_both_of_a_pair_as_one_channel(memory):
    torch.manual_seed(0)
    ours, usual = MirroredNorm2d(6, momentum=0.4), nn.BatchNorm2d(3, momentum=0.4)
    for norm in (ours, usual):
        with torch.no_grad():
            norm.weight.copy_(torch.tensor([0.5, 1, 2]))
            norm.bias.copy_(torch.tensor([-1, 0, 1]))
    x = (3 * torch.randn(4, 6, 2, 3) + 1).to(memory_format=memory)
    apart = torch.cat(x.chunk(2, dim=1))  # (8, 3, 2, 3): the second halves as more images
    torch.testing.assert_close(ours(x), torch.cat(usual(apart).chunk(2), dim=1))
    torch.testing.assert_close(ours.running_mean, usual.running_mean)
    torch.testing.assert_close(ours.running_var, usual.running_var)
    torch.testing.assert_close(ours.eval()(x), torch.cat(usual.eval()(apart).chunk(2), dim=1))
    assert ours(x).is_contiguous(memory_format=memory) or memory == torch.contiguous_format


def test_patches_of_a_mirror_image_are_mirrored_or_change_their_sign_and_share_a_bias():
    torch.manual_seed(0)
    patches = MirroredPatches2d(3).double()
    nn.init.normal_(patches.bias)
    x = torch.randn(2, 3, 4, 5, dtype=torch.float64)
    torch.testing.assert_close(patches(x.flip(3)), mirrored(patches(x), alone=12))
    patches(x).square().sum().backward()
    torch.testing.assert_close(patches.bias.grad[12:18], patches.bias.grad[18:])


def test_the_sum_of_pairs_is_mirrored_where_the_image_is():
    x = torch.randn(2, 6, 3, 4)
    torch.testing.assert_close(MirroredSum()(mirrored(x)), MirroredSum()(x).flip(3))
    torch.testing.assert_close(MirroredSum()(x)[:, 1], x[:, 1] + x[:, 4])
