"""The machinery under the operators: whatever a formula does with the cells of a window, its chunks, its layouts and
its gradients are those of the plain formula."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from poolbench.pooling.base import Pool
from poolbench.pooling.parts import windows as module
from poolbench.pooling.parts.windows import over_windows
from tests.pooling.reference import both, geometries_and_maps

ONE_IMAGE, ALL_IMAGES = 1, 1 << 30


class Windows(Pool):
    rectangles = True


def _combine(inside, a, b, scale, taps, pooled, level):
    """A formula that no operator has: of two maps, parameters of all shapes and where the border is."""
    seen = torch.ones_like(a[:, :1]) if inside is None else inside
    total = ((a * b.tanh() * taps + level) * seen).sum(0)
    return total * scale + pooled * seen.sum(0) + (a * a).sum(0)


def _of(x, kernel_size, stride, padding, scale, taps, pooled, level, b):
    """The same, one window after the other, over the cells inside the map."""
    (high, wide), (down, right), (top, left) = both(kernel_size), both(stride), both(padding)
    height, width = x.shape[-2] // down, x.shape[-1] // right
    rows = []
    for i in range(height):
        row = []
        for j in range(width):
            y = pooled[..., i, j] * 0
            for p in range(high):
                for q in range(wide):
                    r, c = i * down - top + p, j * right - left + q
                    if 0 <= r < x.shape[-2] and 0 <= c < x.shape[-1]:
                        tap = taps[p * wide + q].reshape(())
                        inner = x[..., r, c] * b[..., r, c].tanh() * tap + level
                        y = y + inner * scale[..., 0, 0] + pooled[..., i, j] + x[..., r, c] ** 2
            row.append(y)
        rows.append(torch.stack(row, -1))
    return torch.stack(rows, -2)


def _tensors(x, kernel_size, stride, one_channel, other_format):
    """What ``_combine`` takes beside the first map; all want gradients."""
    (n, c, height, width), (high, wide), (down, right) = x.shape, both(kernel_size), both(stride)
    b = torch.randn(n, 1 if one_channel else c, height, width, dtype=x.dtype)
    if other_format:
        b = b.to(memory_format=torch.channels_last)
    return [
        b.requires_grad_(),
        torch.randn(1, c, 1, 1, dtype=x.dtype, requires_grad=True),
        torch.randn(high * wide, 1, 1, 1, 1, dtype=x.dtype, requires_grad=True),
        torch.randn(n, 1, height // down, width // right, dtype=x.dtype, requires_grad=True),
        torch.randn(1, dtype=x.dtype, requires_grad=True),
    ]


def _gradients(y, tensors):
    weight = torch.linspace(-1, 2, y.numel(), dtype=y.dtype).view(y.shape)
    return torch.autograd.grad((y * weight).sum(), tensors)


@given(
    case=geometries_and_maps(),
    chunk=st.sampled_from([ONE_IMAGE, ALL_IMAGES]),
    one_channel=st.booleans(),
    other_format=st.booleans(),
)
def test_a_formula_of_maps_and_parameters_is_worked_out_window_by_window(case, chunk, one_channel, other_format):
    options, x = case
    pool = Windows(x.shape[1], **options)
    x = x.requires_grad_()
    b, *others = _tensors(x, options["kernel_size"], options["stride"], one_channel, other_format)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "CHUNK_BYTES", chunk)
        y = over_windows(pool, _combine, (x, b), others)
        found = _gradients(y, [x, b, *others])
    expected = _of(x, **options, scale=others[0], taps=others[1], pooled=others[2], level=others[3], b=b)
    torch.testing.assert_close(y, expected)
    for one, other in zip(found, _gradients(expected, [x, b, *others]), strict=True):
        torch.testing.assert_close(one, other)


@given(case=geometries_and_maps(), chunk=st.sampled_from([ONE_IMAGE, ALL_IMAGES]))
def test_the_plain_formula_of_compilers_and_transforms_gives_the_same(case, chunk):
    options, x = case
    pool = Windows(x.shape[1], **options)
    b, *others = _tensors(x, options["kernel_size"], options["stride"], one_channel=False, other_format=False)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "CHUNK_BYTES", chunk)
        y = over_windows(pool, _combine, (x, b), others)
        patch.setattr(module, "transformed", lambda x: True)
        plain = over_windows(pool, _combine, (x, b), others)
    torch.testing.assert_close(plain, y)


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("shape", ["K,N,C,H,W", "K,1,C,1,1", "K,N,1,H,W", "N,C,H,W", "1,1,H,W", "1,C,1,W"])
@pytest.mark.parametrize("chunk", [ONE_IMAGE, ALL_IMAGES])
def test_others_of_every_shape_get_their_gradient(shape, memory_format, chunk, monkeypatch):
    monkeypatch.setattr(module, "CHUNK_BYTES", chunk)
    sizes = {"K": 9, "N": 3, "C": 2, "H": 2, "W": 4, "1": 1}
    x = torch.randn(3, 2, 4, 8, dtype=torch.float64).to(memory_format=memory_format)
    other = torch.randn([sizes[name] for name in shape.split(",")], dtype=torch.float64, requires_grad=True)
    pool = Pool(2, kernel_size=3, stride=2, padding=1)
    found = _gradients(over_windows(pool, lambda _, cells, w: (cells * w).sum(0), (x,), (other,)), other)
    cells = torch.nn.functional.unfold(x, 3, stride=2, padding=1).view(3, 2, 9, 2, 4).movedim(2, 0)
    torch.testing.assert_close(found, _gradients((cells * other).sum(0), other))


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_a_slope_of_ones_own_replaces_the_automatic_one_and_may_be_wider_than_what_it_is_for(memory_format):
    x = torch.randn(3, 2, 7, 6, dtype=torch.float64).to(memory_format=memory_format).requires_grad_()
    scale = torch.randn(1, 2, 1, 1, dtype=torch.float64, requires_grad=True)
    calls = []

    def combine(inside, cells, scale):
        return cells.sum(0) * scale

    def slope(gradient, inside, cells, scale):
        calls.append(1)
        return gradient * scale, gradient * cells  # one for all cells; one for each cell

    pool = Pool(2, kernel_size=3, stride=2, padding=1)
    by_hand = _gradients(over_windows(pool, combine, (x,), (scale,), slope), [x, scale])
    assert calls
    for one, other in zip(by_hand, _gradients(over_windows(pool, combine, (x,), (scale,)), [x, scale]), strict=True):
        torch.testing.assert_close(one, other)


def test_a_slope_by_a_map_of_one_channel_may_have_all_channels():
    x, b = torch.randn(3, 4, 6, 6, requires_grad=True), torch.randn(3, 1, 6, 6, requires_grad=True)
    arguments = Pool(4), lambda _, a, b: (a * b).sum(0), (x, b)
    by_hand = over_windows(*arguments, slope=lambda gradient, _, a, b: (gradient * b, gradient * a))
    for one, other in zip(_gradients(by_hand, [x, b]), _gradients(over_windows(*arguments), [x, b]), strict=True):
        torch.testing.assert_close(one, other)


def test_a_slope_of_none_is_a_gradient_of_zero():
    x, scale = torch.randn(3, 2, 6, 6, requires_grad=True), torch.randn(3, 2, 3, 3, requires_grad=True)
    y = over_windows(Pool(2), lambda _, cells, scale: cells.sum(0) * scale, (x,), (scale,), lambda *_: (None, None))
    assert all((gradient == 0).all() for gradient in _gradients(y, [x, scale]))


def test_what_a_formula_does_not_use_has_a_gradient_of_zero():
    x, b = torch.randn(2, 2, 6, 6, requires_grad=True), torch.randn(2, 2, 6, 6, requires_grad=True)
    y = over_windows(Pool(2), lambda _, a, b: a.sum(0), (x, b))
    assert (_gradients(y, [b])[0] == 0).all()


@pytest.mark.parametrize("padding", [0, 1])
def test_second_derivatives_are_right_by_all_its_tensors(padding):
    x = torch.randn(2, 2, 5, 4, dtype=torch.float64, requires_grad=True)
    tensors = _tensors(x, 3, 2, one_channel=False, other_format=False)
    pool = Pool(2, kernel_size=3, stride=2, padding=padding)
    assert torch.autograd.gradgradcheck(
        lambda x, b, *others: over_windows(pool, _combine, (x, b), others), [x, *tensors]
    )


def test_a_map_made_from_the_other_counts_once_in_every_kind_of_derivative():
    pool, x = Pool(2), torch.randn(2, 2, 4, 4, dtype=torch.float64, requires_grad=True)

    def function(x):
        return over_windows(pool, lambda _, a, b, w: (a * b).sum(0) * w, (x, x.tanh()), (x.mean((2, 3), True),))

    assert torch.autograd.gradcheck(function, x, check_batched_grad=True)
    assert torch.autograd.gradgradcheck(function, x)
    twice = over_windows(pool, lambda _, a, b: (a * b).sum(0), (x, x))
    (slope,) = torch.autograd.grad(twice.sum(), x, create_graph=True)
    torch.testing.assert_close(slope, 2 * x)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_half_precision_is_worked_out_in_float32_and_given_back_as_it_came(dtype, memory_format):
    x = torch.randn(2, 3, 8, 8).to(dtype, memory_format=memory_format).requires_grad_()
    scale = torch.randn(1, 3, 1, 1, requires_grad=True)
    seen = []

    def combine(inside, cells, scale):
        seen.append(cells.dtype)
        return (cells * cells).sum(0) * scale

    y = over_windows(Pool(3), combine, (x,), (scale,))
    found = _gradients(y, [x, scale])
    assert set(seen) == {torch.float32}
    assert [one.dtype for one in (y, *found)] == [dtype, dtype, torch.float32]
    wide = x.detach().float().requires_grad_()
    expected = over_windows(Pool(3), combine, (wide,), (scale,))
    torch.testing.assert_close(y.float(), expected, rtol=1e-2, atol=1e-2)
    torch.testing.assert_close(found[0].float(), _gradients(expected, [wide])[0], rtol=2e-2, atol=2e-2)


def test_inside_tells_the_cells_of_the_map_and_is_none_where_all_are():
    seen = []

    def combine(inside, cells):
        seen.append(inside)
        return cells.sum(0)

    x = torch.ones(1, 1, 4, 4)
    over_windows(Pool(1), combine, (x,))
    y = over_windows(Pool(1, kernel_size=3, stride=2, padding=1), combine, (x,))
    assert seen[0] is None
    torch.testing.assert_close(seen[1].sum(0).float().expand_as(y), y)  # as many ones as cells inside
    assert y.flatten().tolist() == [4, 6, 6, 9]


def test_it_does_not_matter_to_whom_the_memory_of_the_map_belongs():
    whole = torch.randn(3, 4, 9, 9).to(memory_format=torch.channels_last)
    for x in (whole[..., 1:, 1:], whole[:, 1:3], whole[::2], whole[:1].expand(3, 4, 9, 9), whole.transpose(2, 3)):
        x = x.detach().requires_grad_()
        copy = x.detach().clone(memory_format=torch.contiguous_format).requires_grad_()
        y, expected = (over_windows(Pool(x.shape[1]), lambda _, cells: cells.amax(0), (one,)) for one in (x, copy))
        torch.testing.assert_close(y, expected)
        torch.testing.assert_close(_gradients(y, [x]), _gradients(expected, [copy]))


def test_a_batch_of_no_images_gives_none():
    x = torch.randn(0, 2, 4, 4, requires_grad=True)
    y = over_windows(Pool(2), lambda _, cells: cells.sum(0), (x,))
    assert y.shape == (0, 2, 2, 2)
    y.sum().backward()
    assert x.grad.shape == x.shape
