"""Windows, components, codebook and classifier of MOP, each against what it should be, then the whole."""

from functools import partial

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch.utils.flop_counter import FlopCounterMode

from poolbench import create_head
from poolbench.heads.mop import Components, Scale, _sample, assigned, kmeans, lloyd, logistic_regression
from poolbench.heads.vlad import residuals
from tests.heads.vlad_reference import hard_vlad

OPTIONS = {"descriptor_dimension": 4, "centres": 6, "dimension": 5}
make = partial(create_head, "mop", channels=7, num_classes=3, **OPTIONS)


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def training_set(images=90, channels=7, classes=3, size=(6, 5), batch=40, seed=3):
    """Maps whose channels' averages are alike in all classes: the class is which channels are strong at one place."""
    draws = generator(seed)
    y = torch.randint(classes, (images,), generator=draws)
    x = 0.3 * torch.rand(images, channels, *size, generator=draws)
    for image, label in enumerate(y):
        for channel in range(6):
            place = int(torch.randint(size[0] * size[1], (), generator=draws))
            x[image, channel].view(-1)[place] += 5
        if label:  # two channels at one place, which two says the class
            rows = x[image, :6].flatten(1)
            where = rows[0].argmax()
            other = int(label)
            rows[other, [rows[other].argmax(), where]] = rows[other, [where, rows[other].argmax()]]
    return x, y, lambda: zip(x.split(batch), y.split(batch), strict=True)


def scale(share=0.5, stride=0.125, channels=7, reduced=4, centres=6, assignment="hard", kept=5):
    return Scale(channels, share, stride, reduced, centres, assignment, 10.0, kept)


@given(
    st.integers(1, 13),
    st.integers(1, 13),
    st.sampled_from([0.5, 0.25, 0.7]),
    st.sampled_from([0.125, 0.3, 1.0]),
    st.random_module(),
)
def test_windows_are_averages_on_a_grid_that_ends_with_the_map(height, width, share, stride, seed):
    x = torch.randn(2, 7, height, width)
    expected = []
    starts = []
    for length in (height, width):
        side, step = max(1, int(share * length + 0.5)), max(1, int(stride * length + 0.5))
        positions = [i for i in range(length - side + 1) if i % step == 0 or i == length - side]
        starts.append((side, positions))
    (tall, rows), (wide, columns) = starts
    for row in rows:
        for column in columns:
            expected.append(x[:, :, row : row + tall, column : column + wide].mean((2, 3)))
    torch.testing.assert_close(scale(share, stride).windows(x), torch.stack(expected, 1))


def test_the_papers_windows():
    """Of 256 pixels: sides 128 and 64, step 32."""
    assert scale(0.5)._layout(256) == (128, [0, 32, 64, 96, 128])
    assert scale(0.25)._layout(256) == (64, [0, 32, 64, 96, 128, 160, 192])


def test_components_are_those_of_the_singular_value_decomposition():
    x = torch.randn(50, 6) @ torch.randn(6, 6) + 3
    for samples in (x, x[:5]):  # more samples than features, and fewer
        components = Components(6, 3)
        components.fit(samples)
        torch.testing.assert_close(components.directions @ components.directions.T, torch.eye(3), rtol=0, atol=1e-4)
        left = samples - samples.mean(0)
        kept = torch.linalg.svd(left, full_matrices=False).Vh[:3]
        torch.testing.assert_close(
            components(samples) @ components.directions, left @ kept.T @ kept, rtol=1e-3, atol=1e-3
        )


def test_components_that_nothing_varies_along_are_zero():
    components = Components(6, 5)
    components.fit(torch.randn(40, 2) @ torch.randn(2, 6))
    lengths = components.directions.norm(dim=1)
    torch.testing.assert_close(lengths, torch.tensor([1.0, 1, 0, 0, 0]))
    components.fit(torch.ones(4, 6))
    assert not components.directions.any()
    assert not components(torch.ones(2, 6)).any()


@given(st.integers(1, 8), st.integers(1, 9), st.random_module())
def test_a_hard_assignment_is_to_the_nearest(centres, descriptors, seed):
    x, c = torch.randn(descriptors, 3, dtype=torch.float64), torch.randn(centres, 3, dtype=torch.float64)
    shares = assigned(x, c, "hard", 10.0)
    torch.testing.assert_close(shares, F.one_hot(torch.cdist(x, c).argmin(1), centres).double())
    vlad = residuals(shares.T[None], x[None], c)[0]
    torch.testing.assert_close(vlad, hard_vlad(x, c))


@given(st.integers(1, 8), st.random_module())
def test_a_soft_assignment_is_to_the_five_nearest_by_the_true_squared_distance(centres, seed):
    x, c = 3 * torch.randn(4, 3, dtype=torch.float64), 3 * torch.randn(centres, 3, dtype=torch.float64)
    shares = assigned(x, c, "soft", 10.0)
    for descriptor, share in zip(x, shares, strict=True):
        distances = (descriptor - c).square().sum(1)
        near = distances.sort().indices[:5]
        expected = torch.zeros(centres, dtype=torch.float64)
        expected[near] = (-distances[near] / 10).exp() / (-distances[near] / 10).exp().sum()
        torch.testing.assert_close(share, expected)
    torch.testing.assert_close(assigned(x, c, "soft", 1e-4), assigned(x, c, "hard", 1.0))


def test_kmeans_finds_clusters_that_lie_apart():
    truth = torch.tensor([[0.0, 0], [10, 0], [0, 10], [10, 10]])
    x = (truth[:, None] + 0.1 * torch.randn(4, 25, 2)).flatten(0, 1)
    for seed in range(5):
        found = kmeans(x, 4, generator(seed))
        assert (torch.cdist(truth, found).min(1).values < 0.1).all()


def test_kmeans_is_repeated_by_its_generator():
    x = torch.randn(200, 3)
    assert torch.equal(kmeans(x, 8, generator(1)), kmeans(x, 8, generator(1)))
    assert not torch.equal(kmeans(x, 8, generator(1)), kmeans(x, 8, generator(2)))


def test_kmeans_ends_where_each_centre_is_the_mean_of_its_descriptors():
    x = (torch.arange(4.0)[:, None, None] + torch.rand(4, 25, 2)).flatten(0, 1).double()  # neighbours that touch
    centres = kmeans(x, 4, generator())
    nearest = torch.cdist(x, centres).argmin(1)
    for k in range(4):
        torch.testing.assert_close(centres[k], x[nearest == k].mean(0))


def test_a_centre_without_descriptors_goes_to_the_one_that_is_worst_off():
    x = torch.tensor([[0.0], [1], [2], [100]])
    # The second is never the nearest; 100 is farthest from its own and pulls it out of the last one's share.
    centres = lloyd(x, torch.tensor([[1.0], [1], [40]]))
    assert 100 in centres
    assert set(torch.cdist(x, centres).argmin(1).tolist()) == {0, 1, 2}


def test_as_many_centres_as_descriptors_are_the_descriptors():
    x = torch.randn(6, 3)
    centres = kmeans(x, 6, generator())
    torch.testing.assert_close(torch.cdist(x, centres).min(1).values, torch.zeros(6), rtol=0, atol=1e-5)


def test_too_few_windows_are_told_with_the_head_and_the_numbers():
    head = make(centres=60, scales=(1.0, 0.5))
    x, y = torch.rand(2, 7, 6, 5), torch.tensor([0, 1])
    windows = head.scales[0].windows(x).flatten(0, 1)
    with pytest.raises(ValueError, match=f"head Mop: centres must be at most the {len(windows)} windows.*got 60"):
        head.fit(lambda: [(x, y)], generator())
    with pytest.raises(ValueError, match=r"head Mop: centres must be at most the 2 windows that differ.*got 6"):
        make().fit(lambda: [(torch.tensor([0.0, 1]).view(2, 1, 1, 1).expand(2, 7, 6, 5), y)], generator())
    assert not head.fitted


def test_the_classifier_is_the_minimum():
    x, y = torch.randn(60, 4, dtype=torch.float64), torch.randint(3, (60,))
    weight, bias = logistic_regression(x, y, 3, penalty=0.01)
    error = (F.linear(x, weight, bias).softmax(1) - F.one_hot(y, 3)) / 60
    torch.testing.assert_close(error.T @ x + 0.01 * weight, torch.zeros(3, 4, dtype=torch.float64), rtol=0, atol=1e-5)
    torch.testing.assert_close(error.sum(0), torch.zeros(3, dtype=torch.float64), rtol=0, atol=1e-5)
    weaker = logistic_regression(x, y, 3, penalty=1.0)[0]
    assert weaker.norm() < weight.norm() / 2


def test_the_sample_is_drawn_from_the_whole_set():
    maps = torch.arange(100.0).view(100, 1, 1, 1)
    drawn = torch.zeros(100)
    for seed in range(300):
        some = _sample(((part, None) for part in maps.split(17)), 10, generator(seed)).flatten()
        assert len(set(some.tolist())) == 10
        drawn[some.long()] += 1
    assert drawn.min() >= 12
    assert drawn.max() <= 55  # of 30 on average, with a deviation of 5
    everything = _sample(((part, None) for part in maps.split(17)), 200, generator())
    assert sorted(everything.flatten().tolist()) == list(range(100))


def test_until_it_is_fitted_it_is_a_global_average():
    head, x = make(), torch.randn(2, 7, 6, 5)
    average = create_head("global_average", channels=7, num_classes=3)
    average.classifier.load_state_dict(head.classifier.state_dict())
    assert torch.equal(head(x), average(x))
    assert head.flops((6, 5)) == average.flops((6, 5))
    assert sum(p.numel() for p in head.parameters()) == sum(p.numel() for p in average.parameters())


@pytest.mark.parametrize("assignment", ["soft", "hard"])
def test_fitted_it_sees_what_the_average_cannot(assignment):
    _, _, maps = training_set(400)
    new_x, new_y, _ = training_set(200, seed=4)
    accuracy = {}
    for scales in ((1.0,), (1.0, 0.5, 0.25)):
        head = make(scales=scales, centres=24, assignment=assignment, penalty=1e-3, softness=0.2, dimension=32)
        head.fit(maps, generator())
        accuracy[len(scales)] = (head(new_x).argmax(1) == new_y).float().mean()
    assert accuracy[3] > accuracy[1] + 0.1


def test_a_fitted_vector_is_the_levels_side_by_side_each_of_length_one():
    x, _, maps = training_set()
    head = make(assignment="hard")
    head.fit(maps, generator())
    vector = head.pool(x)
    assert vector.shape == (90, head.features) == (90, 7 + 5 + 5)
    whole, half, quarter = vector.split([7, 5, 5], 1)
    torch.testing.assert_close(whole, F.normalize(x.mean((2, 3)), dim=1))
    for level, part in zip(head.scales, (half, quarter), strict=True):
        vlad = torch.stack([hard_vlad(one, level.centres) for one in level.of_descriptors(level.windows(x))]).flatten(1)
        rooted = F.normalize(vlad.sign() * vlad.abs().sqrt(), dim=1)
        reduced = (rooted - level.of_vectors.mean) @ level.of_vectors.directions.T
        torch.testing.assert_close(part, F.normalize(reduced, dim=1), rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(head(x), F.linear(vector, head.weight, head.bias))


def test_a_fit_needs_no_gradients_and_leaves_the_trained_classifier_alone():
    head = make()
    before = [parameter.clone() for parameter in head.parameters()]
    with torch.no_grad():
        head.fit(training_set()[2], generator())
    assert all(torch.equal(a, b) for a, b in zip(before, head.parameters(), strict=True))
    assert bool(head.fitted)
    assert all(parameter.grad is None for parameter in head.parameters())


def test_a_fit_goes_through_the_set_twice_and_keeps_little_of_it():
    x, y, _ = training_set()
    passes = []

    def maps():
        passes.append(1)
        return zip(x.split(40), y.split(40), strict=True)

    make(fit_samples=20).fit(maps, generator())
    assert len(passes) == 2


def test_fewer_images_than_components_are_enough():
    x, _, maps = training_set(images=9)
    head = make(dimension=200)
    head.fit(maps, generator())
    assert head(x).isfinite().all()


def test_another_fit_starts_anew():
    maps = training_set()[2]
    once, twice = make(), make()
    once.fit(maps, generator(1))
    twice.fit(training_set(seed=8)[2], generator(0))
    twice.fit(maps, generator(1))
    assert all(torch.equal(a, b) for a, b in zip(once.buffers(), twice.buffers(), strict=True))


def test_loading_an_unfitted_state_makes_it_unfitted():
    head, fresh, x = make(), make(), torch.randn(2, 7, 6, 5)
    head.fit(training_set()[2], generator())
    head.load_state_dict(fresh.state_dict())
    assert torch.equal(head(x), fresh(x))


def test_matrix_products_are_seen_by_the_counter_and_left_out_here():
    head = make(scales=(1.0, 0.5), assignment="hard")
    head.fit(training_set()[2], generator())
    with FlopCounterMode(display=False) as counter:
        head(torch.zeros(1, 7, 6, 5))
    rows, columns = (len(head.scales[0]._layout(length)[1]) for length in (6, 5))
    windows = rows * columns
    sums = 2 * 7 * (6 * 5 * rows + rows * 5 * columns)
    by_components, by_centres = 2 * windows * 7 * 4, 2 * 2 * windows * 4 * 6  # distances and sums of residuals
    assert counter.get_total_flops() == sums + by_components + by_centres + 2 * 24 * 5 + 2 * 12 * 3
    assert head.flops((6, 5)) > make().flops((6, 5))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"scales": ()}, "scales must be a list of shares above 0, the first 1, got"),
        ({"scales": (0.5, 0.25)}, "scales must be"),
        ({"scales": (1, 2)}, "scales must be"),
        ({"scales": 1}, "scales must be"),
        ({"stride": 2}, "stride must be a share of the map's side, above 0 and up to 1, got 2"),
        ({"stride": 0}, "stride must be a share of the map's side, above 0 and up to 1, got 0"),
        ({"centres": 0}, "centres must be a whole number of at least 1, got 0"),
        ({"assignment": "softer"}, "assignment must be 'soft' or 'hard', got 'softer'"),
        ({"softness": 0}, "softness must be a number above 0, got 0"),
        ({"penalty": -1}, "penalty must be a number of at least 0, got -1"),
        ({"fit_samples": 0}, "fit_samples must be a whole number of at least 1, got 0"),
    ],
    ids=str,
)
def test_values_that_are_not_allowed_are_named(options, words):
    with pytest.raises(ValueError, match=f"head Mop: {words}"):
        make(**options)
