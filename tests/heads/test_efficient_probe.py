import pytest
import torch

from poolbench import create_head
from poolbench.measure.cost import _count


def make(channels=6, **options):
    return create_head("efficient_probe", channels=channels, num_classes=3, **options)


def stir(head):
    """Other weights than those at the start."""
    with torch.no_grad():
        for parameter in head.parameters():
            parameter.normal_()
    return head


def slow(head, image):
    """One image ``(C, H, W)``: every value of every position, then each query's average of its slice."""
    positions = image.flatten(1).T
    values = [head.value.weight @ one for one in positions]
    part = head.channels // len(head.queries)
    vector = []
    for m, q in enumerate(head.queries):
        scores = torch.stack([(q @ one / head.channels**0.5).exp() for one in positions])
        slices = [value[m * part : (m + 1) * part] for value in values]
        vector.append(sum(a * one for a, one in zip(scores / scores.sum(), slices, strict=True)))
    return torch.cat(vector)


@pytest.mark.parametrize("queries", [1, 2, 3, 6, None])
def test_each_query_averages_its_slice_of_the_values(queries):
    head = stir(make(queries=queries)).double()
    x = torch.randn(2, 6, 5, 4, dtype=torch.float64, requires_grad=True)
    found, expected = head.pool(x), torch.stack([slow(head, image) for image in x])
    torch.testing.assert_close(found, expected)
    slope, own = torch.randn_like(found), (x, head.queries, head.value.weight)
    for one, other in zip(*(torch.autograd.grad(y, own, slope) for y in (found, expected)), strict=True):
        torch.testing.assert_close(one, other)


@pytest.mark.parametrize(("channels", "queries"), [(64, 32), (256, 32), (6, 6), (40, 20), (37, 1), (100, 25), (1, 1)])
def test_there_are_32_queries_or_as_many_below_as_divide(channels, queries):
    assert make(channels).queries.shape == (queries, channels)


def test_without_queries_it_is_a_layer_on_the_average_and_it_starts_near_that():
    head, x = make(64), torch.randn(2, 64, 5, 4)
    on_average = head.value(x.mean((2, 3)))
    torch.testing.assert_close(head.pool(x), on_average, rtol=0, atol=0.05)
    with torch.no_grad():
        head.queries.zero_()
    torch.testing.assert_close(head.pool(x), on_average)


def test_positions_do_not_matter():
    head, x = stir(make()), torch.randn(2, 6, 5, 4)
    moved = x.flatten(2)[..., torch.randperm(20)].view(2, 6, 4, 5)
    torch.testing.assert_close(head(moved), head(x), rtol=1e-4, atol=1e-4)


def test_its_own_weights_are_the_queries_and_one_matrix():
    own = {name: tuple(p.shape) for name, p in make(queries=3).named_parameters() if not name.startswith("classifier")}
    assert own == {"queries": (3, 6), "value.weight": (6, 6)}


def test_the_first_queries_are_small():
    assert abs(make(256).queries.std().item() - 0.02) < 0.002


def test_flops_are_what_a_counter_does_not_see():
    head = make(queries=3)
    assert head.flops((5, 4)) == 18 + 3 * (19 + 20 + 20 + 19 + 20)  # the queries' scale, three softmaxes
    assert _count(head, torch.randn(1, 6, 5, 4)) == 2 * (2 * 20 * 6 * 3) + 2 * 6 * 6 + 2 * 6 * 3


@pytest.mark.parametrize(
    ("queries", "words"),
    [
        (4, "EfficientProbe: queries must divide channels=6, got 4"),
        (0, "queries must be null or a whole number of at least 1, got 0"),
        (2.0, "queries must be null or"),
    ],
)
def test_errors_name_the_option(queries, words):
    with pytest.raises(ValueError, match=words):
        make(queries=queries)
