"""Routing against loops that follow the paper line by line, and the losses by hand."""

from functools import partial

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from poolbench import create_head
from poolbench.heads.capsule import couplings, route, squash

make = partial(create_head, "capsule", channels=6, num_classes=3, size=(4, 5))


def parameters(module):
    return sum(parameter.numel() for parameter in module.parameters())


def squashed(s):
    length = s.norm()
    return length**2 / (1 + length**2) * s / length


def routed(u, matrices, bias, iterations, leaky):
    """One image's capsules ``(I, D)`` with a matrix ``(I, K, D, E)`` for each, as the paper's procedure 1."""
    capsules, classes = len(u), matrices.shape[1]
    votes = [[u[i] @ matrices[i, j] for j in range(classes)] for i in range(capsules)]
    b = torch.zeros(capsules, classes, dtype=u.dtype)
    for _ in range(iterations):
        c = b.exp() / (b.exp().sum(1, keepdim=True) + leaky)
        v = [squashed(sum(c[i, j] * votes[i][j] for i in range(capsules)) + bias[j]) for j in range(classes)]
        b = b + torch.tensor([[votes[i][j] @ v[j] for j in range(classes)] for i in range(capsules)], dtype=u.dtype)
    return torch.stack(v)


@given(
    groups=st.integers(1, 3),
    positions=st.integers(1, 4),
    classes=st.integers(1, 4),
    iterations=st.integers(1, 4),
    leaky=st.booleans(),
    seed=st.random_module(),
)
def test_routing_is_the_papers(groups, positions, classes, iterations, leaky, seed):
    u = torch.randn(2, groups, 3, positions, dtype=torch.float64)
    matrices = torch.randn(classes, groups, 3, 5, dtype=torch.float64)
    bias = torch.randn(classes, 5, dtype=torch.float64)
    v = route(u, matrices.flatten(1, 2), bias, iterations, leaky)
    one_each = matrices.transpose(0, 1).repeat_interleave(positions, 0)
    for image, capsules in zip(v, u, strict=True):
        expected = routed(capsules.transpose(1, 2).flatten(0, 1), one_each, bias, iterations, leaky)
        torch.testing.assert_close(image, expected)


def test_the_gradient_goes_through_all_iterations():
    u, matrices = torch.rand(1, 2, 3, 4).double().requires_grad_(), torch.rand(3, 6, 5).double().requires_grad_()
    bias = torch.rand(3, 5).double().requires_grad_()
    assert torch.autograd.gradcheck(partial(route, iterations=3, leaky=True), (u, matrices, bias))


def test_one_matrix_for_all_positions_is_the_same_one_at_each():
    shared, own = make(), make(shared=False)
    own.primary.load_state_dict(shared.primary.state_dict())
    by_type = shared.matrices.view(3, 8, 1, 8, 16).expand(-1, -1, 20, -1, -1)
    own.matrices.data = by_type.reshape(3, -1, 16).clone()
    x = torch.randn(2, 6, 4, 5)
    torch.testing.assert_close(own.capsules(x), shared.capsules(x))


def test_positions_matter_exactly_if_each_has_its_matrices():
    x = torch.randn(2, 6, 4, 5)
    moved = x.flatten(2)[..., torch.randperm(20)].view(2, 6, 4, 5)
    head, own = make(), make(shared=False)
    torch.testing.assert_close(head(moved), head(x))
    assert not torch.allclose(own(moved), own(x), rtol=1e-2)


def test_classes_are_alike():
    u, matrices, order = torch.randn(2, 3, 4, 5), torch.randn(6, 12, 7), torch.randperm(6)
    v = route(u, matrices, None, 3, True)
    torch.testing.assert_close(route(u, matrices[order], None, 3, True), v[:, order])


@pytest.mark.parametrize("leaky", [False, True])
def test_a_capsule_gives_away_its_whole_vote_unless_it_leaks(leaky):
    agreement = torch.randn(2, 3, 4, 5, dtype=torch.float64)
    shares = couplings(agreement, 2, leaky)
    given_away = shares.sum(2)
    dropped = 1 / (1 + agreement.exp().sum(2)) if leaky else torch.zeros_like(given_away)
    torch.testing.assert_close(given_away + dropped, torch.ones_like(given_away))
    torch.testing.assert_close(couplings(torch.zeros(1, 1, 4, 1), 2, leaky), torch.full((1, 1, 4, 1), 1 / (4 + leaky)))


def test_agreement_draws_votes_together():
    """Three capsules of which two say the same: routing brings the class capsule closer to these."""
    u = torch.tensor([[2.0, 2.0, 0.0], [0.0, 0.0, 2.0]])[None, None]
    matrices = torch.stack([torch.eye(2), torch.zeros(2, 2)])  # what they say to one class, and nothing to another
    first, *later = [float(F.normalize(route(u, matrices, None, n, False)[0, 0], dim=0)[0]) for n in (1, 2, 3, 4)]
    assert min(later) > first + 0.01


@given(st.integers(1, 9), st.floats(1e-3, 1e3), st.random_module())
def test_squash_keeps_directions_and_brings_lengths_below_one(size, length, seed):
    s = F.normalize(torch.randn(size, dtype=torch.float64), dim=0) * length
    v = squash(s, 0)
    torch.testing.assert_close(v, squashed(s))
    torch.testing.assert_close(v.norm().item(), length**2 / (1 + length**2))
    assert v.norm() < 1


def test_squash_of_nothing_is_nothing_with_slope_zero():
    s = torch.zeros(3, 4, requires_grad=True)
    v = squash(s, 1)
    v.sum().backward()
    assert not v.any()
    assert torch.equal(s.grad, torch.zeros(3, 4))
    near = torch.full((3, 4), 1e-6, requires_grad=True)  # the limit is the same
    squash(near, 1).sum().backward()
    assert near.grad.abs().max() < 1e-4


def test_logits_are_lengths_below_one():
    head = make(bias=True)
    x = 1e3 * torch.randn(2, 6, 4, 5)
    assert torch.equal(head(x), head.capsules(x).norm(dim=2))
    assert (head(x) < 1 + 1e-6).all()


def test_the_margin_loss_is_the_papers():
    head = make()
    lengths, y = torch.tensor([[0.95, 0.05, 0.3], [0.2, 0.1, 0.6]]), torch.tensor([0, 1])
    first = 0 + 0.5 * (0 + 0.2**2)
    second = (0.9 - 0.1) ** 2 + 0.5 * (0.1**2 + 0.5**2)
    torch.testing.assert_close(head.criterion(lengths, y), torch.tensor((first + second) / 2))


def test_label_smoothing_mixes_the_losses_of_the_labels_as_in_cross_entropy():
    head = make()
    lengths, y = torch.rand(5, 3), torch.tensor([0, 1, 2, 0, 1])
    for criterion in (head.criterion, lambda *args: F.cross_entropy(args[0], args[1], label_smoothing=args[2])):
        all_labels = sum(criterion(lengths, torch.full((5,), label), 0.0) for label in range(3)) / 3
        expected = 0.7 * criterion(lengths, y, 0.0) + 0.3 * all_labels
        torch.testing.assert_close(criterion(lengths, y, 0.3), expected)


def test_the_capsule_net_for_digits_has_the_parameters_of_the_paper():
    """8.2 million with the decoder, 6.8 million without; the first layer makes 20x20 of 28x28 pixels."""
    first = nn.Conv2d(1, 256, 9)
    options = {"types": 32, "primary_kernel": 9, "primary_stride": 2, "shared": False}
    head = create_head("capsule", channels=256, num_classes=10, size=(20, 20), **options)
    assert parameters(first) == 20_992
    assert head.matrices.numel() == 6 * 6 * 32 * 10 * 8 * 16
    assert parameters(first) + parameters(head) == 6_804_224
    assert head(torch.zeros(1, 256, 20, 20)).shape == (1, 10)
    biased = create_head("capsule", channels=256, num_classes=10, size=(20, 20), bias=True, **options)
    assert parameters(biased) - parameters(head) == 160
    decoded = create_head("capsule", 256, 10, (20, 20), reconstruction=0.0005, image_size=(28, 28), **options)
    colours = 2 * 28 * 28 * (1024 + 1)  # digits have one channel
    assert parameters(decoded) - parameters(head) - colours == 1_411_344


def test_the_capsule_layer_for_cifar_has_the_parameters_of_the_authors_code():
    head = create_head(
        "capsule",
        channels=256,
        num_classes=10,
        size=(24, 24),  # an odd kernel with "same" padding and stride 2 halves
        types=64,
        primary_kernel=9,
        primary_stride=2,
        primary_padding=4,
        shared=False,
        leaky=True,
    )
    assert parameters(head.primary) == 10_617_344
    assert head.matrices.numel() == 11_796_480


def test_the_decoder_sees_the_true_class_alone_and_is_held_to_the_stretched_image():
    head = make(reconstruction=0.01, image_size=(2, 3))
    maps, images, y = torch.randn(2, 6, 4, 5), 7 * torch.randn(2, 3, 2, 3) - 2, torch.tensor([2, 0])
    loss, logits = head.training_loss(maps, images, y, 0.1)
    torch.testing.assert_close(logits, head(maps))
    expected = head.criterion(logits, y, 0.1)
    for capsules, image, label in zip(head.capsules(maps), images, y, strict=True):
        alone = torch.zeros(3, 16)
        alone[label] = capsules[label]
        target = (image - image.min()) / (image.max() - image.min())
        expected = expected + 0.01 * (head.decoder(alone.flatten()) - target.flatten()).square().sum() / 2
    torch.testing.assert_close(loss, expected)
    flat = head.training_loss(maps, torch.ones(2, 3, 2, 3), y, 0.0)[0]
    assert flat.isfinite()


def test_images_of_another_size_are_refused_with_both_sizes():
    head = make(reconstruction=0.01, image_size=[8, 8])
    with pytest.raises(ValueError, match="image_size is 8x8 and the images are 9x8"):
        head.training_loss(torch.zeros(1, 6, 4, 5), torch.zeros(1, 3, 9, 8), torch.tensor([0]), 0.0)


def test_without_a_decoder_the_images_do_not_matter():
    head, maps, y = make(), torch.randn(2, 6, 4, 5), torch.tensor([2, 0])
    loss, _ = head.training_loss(maps, torch.zeros(2, 3, 1, 1), y, 0.1)
    torch.testing.assert_close(loss, head.criterion(head(maps), y, 0.1))


@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize("size", [(2, 2), (8, 8), (12, 12)])
@pytest.mark.parametrize("classes", [2, 10, 50])
def test_first_lengths_are_neither_0_nor_1(size, classes, shared):
    head = create_head("capsule", channels=32, num_classes=classes, size=size, shared=shared)
    assert 0.02 < head(torch.randn(4, 32, *size).relu()).mean() < 0.8


def test_first_matrices_have_the_scale_of_the_authors_code():
    options = {"types": 32, "primary_kernel": 9, "primary_stride": 2, "shared": False}
    assert abs(create_head("capsule", 8, 10, (20, 20), **options).matrices.std() - 0.1) < 0.001


def test_votes_are_not_formed():
    """The largest thing that routing keeps has one number for each capsule and class, not one for each of 16."""
    sizes = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: sizes.append(t.numel()) or t, lambda t: t):
        create_head("capsule", channels=64, num_classes=10, size=(8, 8))(torch.randn(4, 64, 8, 8))
    assert max(sizes) <= 4 * 8 * 64 * 10


@pytest.mark.parametrize(("height", "width"), [(1, 1), (5, 7)])
def test_matrix_products_are_seen_by_the_counter_and_left_out_here(height, width):
    head = make(iterations=2)
    with FlopCounterMode(display=False) as counter:
        head(torch.zeros(1, 6, height, width))
    cells = height * width
    convolution = 2 * 6 * 64 * cells
    by_matrices = 2 * 3 * 8 * 8 * 16 * 3  # to the sum, to the class capsules, to the sum again
    by_shares = 2 * 2 * 3 * 8 * 8 * cells if cells > 1 else 0
    assert counter.get_total_flops() == convolution + by_matrices + by_shares
    assert head.flops((height, width)) > 0


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"types": 0}, "types must be a whole number of at least 1, got 0"),
        ({"iterations": 0}, "iterations must be a whole number of at least 1, got 0"),
        ({"primary_padding": 1}, "primary_padding must be a whole number from 0 to 0, less than primary_kernel, got 1"),
        ({"leaky": 1}, "leaky must be true or false, got 1"),
        ({"reconstruction": -1}, "reconstruction must be a number of at least 0, got -1"),
        (
            {"reconstruction": 1},
            r"image_size must be \(height, width\) in pixels, which reconstruction needs, got None",
        ),
        ({"reconstruction": 1, "image_size": 32}, "image_size must be .*got 32"),
        ({"primary_kernel": 5}, "at least 5x5 pixels, got 4x5: primary_kernel is 5 and primary_padding 0"),
        ({"shared": False, "size": None}, r"size=\(H, W\) of the last map is needed"),
    ],
    ids=str,
)
def test_values_that_are_not_allowed_are_named(options, words):
    with pytest.raises(ValueError, match=f"head Capsule: .*{words}"):
        make(**options)
