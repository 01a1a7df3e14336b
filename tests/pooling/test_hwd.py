import torch
from hypothesis import given

from poolbench import create_pool
from tests.pooling.reference import by_loop, maps

PLAIN = {"norm": False, "activation": False}


@given(maps(2, 2))
def test_it_is_a_linear_map_of_the_four_bands(x):
    pool = create_pool("hwd", channels=x.shape[1], **PLAIN).double()
    weight = pool.conv.weight[:, :, 0, 0]

    def of_window(cells):
        a, b, c, d = cells.unbind(-1)
        bands = [(a + b + c + d) / 2, (a - b + c - d) / 2, (a + b - c - d) / 2, (a - b - c + d) / 2]
        return torch.cat(bands, dim=1) @ weight.T + pool.conv.bias

    torch.testing.assert_close(pool(x), by_loop(x, of_window, 2, 2))


def test_then_it_is_normalised_and_cut_at_zero():
    x = torch.randn(4, 3, 8, 8)
    plain, pool = create_pool("hwd", channels=3, **PLAIN), create_pool("hwd", channels=3)
    with torch.no_grad():
        plain.conv.bias.zero_()
        pool.conv.weight.copy_(plain.conv.weight)
    torch.testing.assert_close(pool(x), torch.nn.BatchNorm2d(3)(plain(x)).relu())


def test_with_turned_weights_it_is_space_to_depth():
    x, channels = torch.randn(2, 3, 8, 6), 3
    ours, other = create_pool("hwd", channels=channels).eval(), create_pool("space_to_depth", channels=channels).eval()
    haar = torch.tensor([[1.0, 1, 1, 1], [1, -1, 1, -1], [1, 1, -1, -1], [1, -1, -1, 1]]) / 2
    torch.testing.assert_close(haar @ haar.T, torch.eye(4))  # so nothing is lost
    with torch.no_grad():
        cells = other.conv.weight.view(channels, 2, 2, channels).transpose(1, 2).flatten(1, 2)  # row by row
        ours.conv.weight.copy_(torch.einsum("oki,bk->obi", cells, haar).reshape(channels, -1, 1, 1))
    torch.testing.assert_close(ours(x), other(x))


def test_parameters_and_flops():
    pool = create_pool("hwd", channels=5)
    assert sum(p.numel() for p in pool.parameters()) == 4 * 5 * 5 + 2 * 5
    assert pool.flops((8, 6)) == 5 * 4 * 3 * (2 * 4 * 5 + 3)
