import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from poolbench import create_pool
from tests.pooling.reference import by_loop, geometries_and_maps, maps

ONE_TO_FOUR = torch.tensor([[[[1.0, 2.0], [3.0, 4.0]]]])


def _with_gate(value, **options):
    pool = create_pool("gated", **options).double()
    with torch.no_grad():
        pool.gate.fill_(value)
    return pool


@pytest.mark.parametrize("per", ["layer", "channel"])
@pytest.mark.parametrize("kernel_size", [2, 3])
@given(data=st.data())
def test_the_gate_of_each_window_mixes_its_maximum_and_its_average(per, kernel_size, data):
    x = data.draw(maps(kernel_size, kernel_size)).clone().requires_grad_()
    pool = create_pool("gated", channels=x.shape[1], kernel_size=kernel_size, stride=None, per=per, std=1.0).double()

    def of_window(cells):
        share = (cells * pool.gate.flatten(1)).sum(-1).sigmoid()
        return share * cells.amax(-1) + (1 - share) * cells.mean(-1)

    y, expected = pool(x), by_loop(x, of_window, kernel_size, kernel_size)
    torch.testing.assert_close(y, expected)
    weight = torch.rand_like(y)
    found, right = (torch.autograd.grad(one, (x, pool.gate), weight) for one in (y, expected))
    torch.testing.assert_close(found[1], right[1])
    if x.unique().numel() == x.numel():  # among equal maxima the loop divides the gradient
        torch.testing.assert_close(found[0], right[0])


@given(geometries_and_maps())
def test_the_output_lies_between_average_and_maximum(case):
    options, x = case
    y = create_pool("gated", channels=x.shape[1], std=2.0, **options).double()(x)
    largest = by_loop(x, lambda cells: cells.amax(-1), **options)
    average = by_loop(x, lambda cells: cells.mean(-1), **options)
    assert (average - 1e-9 <= y).all()
    assert (y <= largest + 1e-9).all()


@pytest.mark.parametrize("per", ["layer", "channel"])
@given(case=geometries_and_maps())
def test_the_gate_is_a_learned_filter_that_also_serves_borders(per, case):
    options, x = case
    pool = create_pool("gated", channels=x.shape[1], per=per, std=1.0, **options).double()
    gate = create_pool("leap", channels=x.shape[1], per=per, **options).double()
    gate.load_state_dict({"weight": pool.gate})
    share = gate(x).sigmoid()
    largest, average = (create_pool(name, channels=x.shape[1], **options)(x) for name in ("max", "average"))
    torch.testing.assert_close(pool(x), share * largest + (1 - share) * average)


@given(geometries_and_maps())
def test_with_a_gate_of_zeros_it_is_half_and_half(case):
    options, x = case
    half = create_pool("mixed", channels=x.shape[1], weight="fixed", share=0.5, **options)(x)
    torch.testing.assert_close(create_pool("gated", channels=x.shape[1], std=0.0, **options).double()(x), half)


def test_at_the_border_the_gate_sees_its_share_of_cells_scaled_up():
    x, pool = torch.ones(1, 1, 4, 4, dtype=torch.float64), _with_gate(0.1, channels=1, kernel_size=3, padding=1)
    x[..., 0, 0] = 2
    corner = pool(x)[..., 0, 0]
    share = torch.tensor(5 * 0.1 * 9 / 4, dtype=torch.float64).sigmoid()
    torch.testing.assert_close(corner.squeeze(), share * 2 + (1 - share) * 1.25)


def test_known_values_and_gradients():
    pool = create_pool("gated", channels=1, std=0.0)
    y = pool(ONE_TO_FOUR)
    y.backward()
    assert y.item() == 3.25
    torch.testing.assert_close(pool.gate.grad.flatten(), torch.tensor([0.375, 0.75, 1.125, 1.5]))
    assert _with_gate(10.0, channels=1)(ONE_TO_FOUR.double()).item() == pytest.approx(4)
    assert _with_gate(-10.0, channels=1)(ONE_TO_FOUR.double()).item() == pytest.approx(2.5)


@pytest.mark.parametrize(("per", "count"), [("layer", 9), ("channel", 45)])
def test_the_weights_are_those_of_a_window_and_start_as_told(per, count):
    pool = create_pool("gated", channels=5, kernel_size=3, per=per)
    assert sum(p.numel() for p in pool.parameters()) == count
    many = create_pool("gated", channels=2000, per="channel", std=0.3)
    for _ in range(2):
        # Six standard deviations of the estimate from 8000 numbers.
        assert abs(many.gate.std().item() - 0.3) < 6 * 0.3 / 16000**0.5
        many.reset_parameters()


@pytest.mark.parametrize(
    ("options", "words"), [({"per": "pixel"}, "per must be"), ({"std": -1.0}, "std must be")], ids=str
)
def test_errors_name_the_option(options, words):
    with pytest.raises(ValueError, match=words) as caught:
        create_pool("gated", channels=3, **options)
    assert "GatedPool2d" in str(caught.value)


def test_flops_are_those_of_the_formula():
    # Comparisons; additions and a division; multiply-adds and the sigmoid of the gate; the mixture.
    assert create_pool("gated", channels=5).flops((8, 6)) == 5 * 4 * 3 * (3 + 4 + 8 + 3 + 3)
