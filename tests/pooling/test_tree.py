import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from poolbench import create_pool
from tests.pooling.reference import by_loop, cells_of, geometries_and_maps, maps

ONE_TO_FOUR = torch.tensor([[[[1.0, 2.0], [3.0, 4.0]]]])


def _node(cells, leaves, gates, level, index):
    """Value of a node by the definition, ``(N, C)``: level 0 are the leaves, ``gates`` a list of a level's each."""
    if level == 0:
        return (cells * leaves[index]).sum(-1)
    left, right = (_node(cells, leaves, gates, level - 1, 2 * index + side) for side in (0, 1))
    share = (cells * gates[level - 1][index]).sum(-1).sigmoid()
    return share * left + (1 - share) * right


@pytest.mark.parametrize("per", ["layer", "channel"])
@pytest.mark.parametrize("levels", [1, 2, 3])
@given(x=maps(2, 2))
def test_it_is_the_tree_of_the_definition_with_its_gradients(levels, per, x):
    x = x.clone().requires_grad_()
    pool = create_pool("tree", channels=x.shape[1], levels=levels, per=per, std=0.7).double()
    leaves = pool.leaves.flatten(2)
    gates, rest = [], [] if pool.gates is None else list(pool.gates.flatten(2))
    for level in range(1, levels):  # the lowest first
        count = 2 ** (levels - 1 - level)
        gates.append(rest[:count])
        rest = rest[count:]
    expected = by_loop(x, lambda cells: _node(cells, leaves, gates, levels - 1, 0), kernel_size=2, stride=2)
    y = pool(x)
    torch.testing.assert_close(y, expected)
    weight = torch.rand_like(y)
    found, right = (torch.autograd.grad(one, (x, *pool.parameters()), weight) for one in (y, expected))
    for one, other in zip(found, right, strict=True):
        torch.testing.assert_close(one, other)


@given(case=geometries_and_maps(), levels=st.integers(1, 3))
def test_with_leaves_of_the_average_it_is_the_average_whatever_its_gates(case, levels):
    options, x = case
    pool = create_pool("tree", channels=x.shape[1], levels=levels, std=1.0, **options).double()
    with torch.no_grad():
        pool.leaves.fill_(1 / cells_of(options))
    torch.testing.assert_close(pool(x), by_loop(x, lambda cells: cells.mean(-1), **options))


@given(case=geometries_and_maps(), levels=st.integers(1, 2), per=st.sampled_from(["layer", "channel"]))
def test_its_nodes_are_learned_filters_that_also_serve_borders(case, levels, per):
    options, x = case
    pool = create_pool("tree", channels=x.shape[1], levels=levels, per=per, std=0.7, **options).double()

    def node(weight):
        leap = create_pool("leap", channels=x.shape[1], per=per, **options).double()
        leap.load_state_dict({"weight": weight[:, None]})
        return leap(x)

    expected = node(pool.leaves[0])
    if levels == 2:
        share = node(pool.gates[0]).sigmoid()
        expected = share * expected + (1 - share) * node(pool.leaves[1])
    torch.testing.assert_close(pool(x), expected)


def test_known_value():
    pool = create_pool("tree", channels=1)
    with torch.no_grad():
        pool.gates.zero_()
        pool.leaves[0] = 0.25
        pool.leaves[1] = torch.tensor([[1.0, 0.0], [0.0, 0.0]])
    assert pool(ONE_TO_FOUR).item() == 1.75


@pytest.mark.parametrize(
    ("options", "count"),
    [
        ({"kernel_size": 3}, 27),
        ({"kernel_size": 3, "levels": 3}, 63),
        ({"levels": 1}, 4),
        ({"per": "channel"}, 60),
    ],
    ids=str,
)
def test_it_has_a_window_of_weights_for_every_node(options, count):
    assert sum(p.numel() for p in create_pool("tree", channels=5, **options).parameters()) == count


@pytest.mark.parametrize(("leaves", "middle"), [("average", 0.25), ("zero", 0.0)])
def test_the_weights_start_as_told(leaves, middle):
    pool = create_pool("tree", channels=2000, per="channel", std=0.3, leaves=leaves)
    for _ in range(2):
        for weights, around in ((pool.leaves, middle), (pool.gates, 0.0)):
            # Six standard deviations of the estimates.
            n = weights.numel()
            assert abs(weights.mean().item() - around) < 6 * 0.3 / n**0.5
            assert abs(weights.std().item() - 0.3) < 6 * 0.3 / (2 * n) ** 0.5
        pool.reset_parameters()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"levels": 0}, "levels must be a whole number from 1 to 6"),
        ({"levels": True}, "levels must be"),
        ({"per": "pixel"}, "per must be"),
        ({"std": 0.0}, "std must be"),
        ({"leaves": "max"}, "leaves must be"),
    ],
    ids=str,
)
def test_errors_name_the_option(options, words):
    with pytest.raises(ValueError, match=words) as caught:
        create_pool("tree", channels=3, **options)
    assert "TreePool2d" in str(caught.value)


@pytest.mark.parametrize(("levels", "per_window"), [(1, 8), (2, 2 * 8 + 8 + 3 + 3), (3, 4 * 8 + 3 * (8 + 3 + 3))])
def test_flops_are_those_of_the_filters_and_gates(levels, per_window):
    assert create_pool("tree", channels=5, levels=levels).flops((8, 6)) == 5 * 4 * 3 * per_window
