import torch
from hypothesis import given

from poolbench import create_pool
from tests.pooling.reference import by_loop, maps


@given(maps(2, 2))
def test_it_normalises_the_cells_of_a_window_over_all_channels_then_is_linear(x):
    pool = create_pool("patch_merge", channels=x.shape[1]).double()
    with torch.no_grad():
        pool.norm.weight.uniform_(0.5, 2)
        pool.norm.bias.normal_()

    def of_window(cells):
        stacked = cells.unflatten(-1, (2, 2)).permute(0, 3, 2, 1).flatten(1)
        mean = stacked.mean(1, keepdim=True)
        deviation = (stacked.var(1, keepdim=True, unbiased=False) + pool.norm.eps).sqrt()
        return ((stacked - mean) / deviation * pool.norm.weight + pool.norm.bias) @ pool.reduction.weight.T

    torch.testing.assert_close(pool(x), by_loop(x, of_window, 2, 2))


def test_it_does_not_change_with_the_level_or_the_scale_of_a_map():
    x, pool = torch.randn(2, 8, 6, 6, dtype=torch.float64), create_pool("patch_merge", channels=8).double()
    torch.testing.assert_close(pool(3 * x + 2), pool(x), rtol=1e-4, atol=1e-4)


def test_training_and_evaluation_are_alike():
    x, pool = torch.randn(2, 3, 6, 6), create_pool("patch_merge", channels=3)
    assert torch.equal(pool.train()(x), pool.eval()(x))


def test_parameters_and_flops():
    pool = create_pool("patch_merge", channels=5)
    assert sum(p.numel() for p in pool.parameters()) == 4 * 5 * 5 + 2 * 4 * 5
    assert pool.flops((8, 6)) == 5 * 4 * 3 * (2 * 4 * 5 + 8 * 4)
