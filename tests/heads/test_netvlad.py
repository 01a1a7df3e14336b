import math
from functools import partial

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch.utils.flop_counter import FlopCounterMode

from poolbench import create_head
from tests.heads.vlad_reference import hard_vlad

make = partial(create_head, "netvlad", channels=5, num_classes=3)


def slow(head, x):
    """One image ``(C, H, W)``, as the paper's equations 3 and 4, pixel by pixel."""
    sums = torch.zeros_like(head.centres)
    for pixel in x.flatten(1).T:
        pixel = pixel / pixel.norm() if head.normalise_input else pixel
        shares = (head.assignment_weight @ pixel + head.assignment_bias).softmax(0)
        for k, share in enumerate(shares):
            sums[k] += share * (pixel - head.centres[k])
    flat = F.normalize(sums, dim=1).flatten()
    return flat / flat.norm() * 5**0.5


@given(st.integers(1, 6), st.integers(1, 5), st.integers(1, 5), st.booleans(), st.random_module())
def test_it_is_the_papers_formula(centres, height, width, normalise_input, seed):
    head = make(centres=centres, normalise_input=normalise_input).double()
    with torch.no_grad():  # free of how they start
        for parameter in head.parameters():
            parameter.normal_()
    x = torch.randn(2, 5, height, width, dtype=torch.float64)
    torch.testing.assert_close(head.pool(x), torch.stack([slow(head, image) for image in x]), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("normalise_input", [False, True])
def test_a_hard_assignment_is_vlad(normalise_input):
    head = make(alpha=1e5, centres=4, normalise_input=normalise_input).double()
    x = torch.randn(3, 5, 4, 6, dtype=torch.float64)
    pixels = x.flatten(2).transpose(1, 2)
    pixels = F.normalize(pixels, dim=2) if normalise_input else pixels
    parts = torch.stack([hard_vlad(one, head.centres.detach()) for one in pixels])
    expected = F.normalize(F.normalize(parts, dim=2).flatten(1), dim=1) * 5**0.5
    torch.testing.assert_close(head.pool(x), expected)


@pytest.mark.parametrize("alpha", [0.3, None])
def test_it_starts_as_a_softmax_of_squared_distances(alpha):
    head = make(alpha=alpha)
    x = torch.randn(7, 5)
    logits = x @ head.assignment_weight.T + head.assignment_bias
    distances = (x[:, None] - head.centres).square().sum(2)
    alpha = head.assignment_weight[0, 0] / head.centres[0, 0] / 2
    torch.testing.assert_close(logits.softmax(1), (-alpha * distances).softmax(1))


@pytest.mark.parametrize(("centres", "channels"), [(2, 8), (16, 8), (16, 128)])
def test_the_nearest_centre_starts_with_a_hundred_times_the_seconds_share(centres, channels):
    head = create_head("netvlad", channels=channels, num_classes=2, centres=centres)
    x = F.normalize(torch.randn(4096, channels), dim=1)
    best = (x @ head.assignment_weight.T + head.assignment_bias).topk(2).values
    assert abs((best[:, 0] - best[:, 1]).mean().item() - math.log(100)) < 0.5


def test_first_centres_have_length_one_on_average():
    squares = create_head("netvlad", channels=64, num_classes=2, centres=500).centres.square().sum(1)
    assert abs(squares.mean() - 1) < 0.03


def test_positions_do_not_matter():
    head, x = make(), torch.randn(2, 5, 4, 6)
    moved = x.flatten(2)[..., torch.randperm(24)].view(2, 5, 6, 4)
    torch.testing.assert_close(head(moved), head(x))


def test_the_number_of_pixels_does_not_matter():
    head, x = make(), torch.randn(2, 5, 4, 6)
    torch.testing.assert_close(head.pool(x.repeat(1, 1, 3, 2)), head.pool(x))


@given(st.floats(0.01, 100), st.random_module())
def test_a_pixels_length_matters_exactly_if_it_is_not_normalised(factor, seed):
    x = torch.randn(2, 5, 4, 6)
    stronger = x * torch.where(torch.rand(2, 1, 4, 6) < 0.5, 1.0, factor)
    head, free = make(), make(normalise_input=False)
    torch.testing.assert_close(head.pool(stronger), head.pool(x), rtol=1e-4, atol=1e-5)
    if abs(math.log(factor)) > 1:
        assert not torch.allclose(free.pool(stronger), free.pool(x), rtol=1e-3)


def test_each_centres_part_has_the_same_length_and_the_whole_that_of_the_channels():
    vector = make(centres=4, alpha=0.1).pool(torch.randn(2, 5, 4, 6)).view(2, 4, 5)
    torch.testing.assert_close(vector.norm(dim=2), torch.full((2, 4), 5**0.5 / 2))


def test_empty_maps_and_centres_are_survived():
    x = torch.zeros(2, 5, 3, 3, requires_grad=True)
    head = make(alpha=1e4)  # most centres get nothing at all
    head(x).sum().backward()
    assert x.grad.isfinite().all()
    assert all(parameter.grad.isfinite().all() for parameter in head.parameters())


def test_residuals_are_not_formed():
    sizes = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: sizes.append(t.numel()) or t, lambda t: t):
        create_head("netvlad", channels=8, num_classes=2, centres=6)(torch.randn(3, 8, 7, 7, requires_grad=True))
    assert max(sizes) <= 3 * 8 * 49


def test_matrix_products_are_seen_by_the_counter_and_left_out_here():
    head = make(centres=7)
    with FlopCounterMode(display=False) as counter:
        head.pool(torch.zeros(1, 5, 3, 4))
    assert counter.get_total_flops() == 2 * (2 * 5 * 7 * 12)
    assert head.flops((3, 4)) == 12 * (10 + 3 + 14) + 12 * 7 * 8 + 7 * 5 * 9


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"centres": 0}, "centres must be a whole number of at least 1, got 0"),
        ({"alpha": 0}, "alpha must be a number above 0, got 0"),
        ({"alpha": "hard"}, "alpha must be a number above 0, got 'hard'"),
        ({"normalise_input": 1}, "normalise_input must be true or false, got 1"),
    ],
    ids=str,
)
def test_values_that_are_not_allowed_are_named(options, words):
    with pytest.raises(ValueError, match=f"head NetVlad: {words}"):
        make(**options)
