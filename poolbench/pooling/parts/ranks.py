"""Weighted sums of the sorted cells of a window: the formulas of pools that look at the rank of a cell."""

from collections.abc import Callable, Sequence
from functools import partial

import torch
from torch import Tensor

from poolbench.pooling.base import Pool
from poolbench.pooling.parts.infinite import share_of
from poolbench.pooling.parts.tracing import differentiated, recorded
from poolbench.pooling.parts.windows import over_windows

# Called as ``weigh(inside, windows, *others)``: one weight for each rank, the largest cell's first, as numbers or as a
# tensor ``(K, ...)`` that broadcasts to the windows. Ranks past the cells inside the map must weigh nothing.
Weigh = Callable[..., Sequence[float] | Tensor]

Pairs = tuple[tuple[int, int], ...]


def sum_by_rank(pool: Pool, x: Tensor, weigh: Weigh, others: Sequence[Tensor] = (), learned: bool = False) -> Tensor:
    """The cells of every window of ``pool`` in falling order, times their weights, summed.

    Which of equal cells has the better rank depends on their places in the window alone.

    Args:
        pool: whose windows.
        x: the map ``(N, C, H, W)``.
        weigh: gives the weights.
        others: further tensors for ``weigh``, see :func:`~poolbench.pooling.parts.windows.over_windows`.
        learned: whether the gradient by the first of ``others`` is wanted.
    Returns: ``(N, C, H', W')``.
    """
    combine, limits = partial(_sum, weigh=weigh), partial(_limits, weigh=weigh)
    return over_windows(pool, combine, (x,), others, partial(_slope, weigh=weigh, learned=learned), limits)


def comparisons(weights: Sequence[float]) -> int:
    """How many operations it takes to sort a window as far as these weights ask, two for each pair of cells."""
    return 2 * len(_needed(len(weights), tuple(weights)))


def weights_of_count(
    inside: Tensor | None, windows: Tensor, weights: Callable[[int], Sequence[float]]
) -> Sequence[float] | Tensor:
    """``weights(n)``, K numbers, for the number ``n`` of cells that each window has inside the map."""
    count = len(windows)
    if inside is None:
        return weights(count)
    table = torch.tensor([weights(n) for n in range(1, count + 1)], dtype=windows.dtype, device=windows.device)
    at = inside.sum(0) - 1
    return table[at].movedim(at.dim(), 0)


def greater(a: Tensor, b: Tensor) -> Tensor:
    """1 where ``a > b``, else 0, in their dtype; without gradient."""
    if _plainly():
        return (a > b).to(a.dtype)
    return torch.gt(a, b, out=a.new_empty(torch.broadcast_shapes(a.shape, b.shape)))


def chosen(second: Tensor, first: Tensor, other: Tensor) -> Tensor:
    """``first`` where ``second`` is 0 and ``other`` where it is 1."""
    if _plainly():
        return torch.where(second > 0, other, first)
    return torch.lerp(first, other, second)  # exact at both ends


def _plainly() -> bool:
    """Whether somebody looks into the formula. Otherwise numbers are compared and chosen by numbers, since with truth
    values of one byte each of it is 5 to 15 times slower."""
    return torch.is_grad_enabled() or recorded() or torch._C._are_functorch_transforms_active()


def _sum(inside: Tensor | None, windows: Tensor, *others: Tensor, weigh: Weigh) -> Tensor:
    weights = weigh(inside, windows, *others)
    cells, _ = _sorted(inside, windows, _pairs(weights, len(windows)), note=differentiated())
    if isinstance(weights, Tensor):
        total = weights[0] * cells[0]
        for weight, one in zip(weights[1:], cells[1:], strict=True):
            total = torch.addcmul(total, weight, one)
        return total
    used = [(weight, one) for weight, one in zip(weights, cells, strict=True) if weight]
    first, total = used[0]
    for weight, one in used[1:]:
        total = torch.add(total, one, alpha=weight / first)
    return total * first


def _limits(inside: Tensor | None, windows: Tensor, *others: Tensor, weigh: Weigh) -> Tensor:
    """:func:`_sum` of windows in which cells may be infinite: a rank that weighs nothing does not count."""
    weights = weigh(inside, windows, *others)
    if inside is not None:
        windows = windows.masked_fill(~inside, -torch.inf)
    cells, _ = _sorted(None, windows, _pairs(weights, len(windows)), note=differentiated())
    return sum(share_of(weight, one) for weight, one in zip(weights, cells, strict=True))


def _slope(
    gradient: Tensor, inside: Tensor | None, windows: Tensor, *others: Tensor, weigh: Weigh, learned: bool
) -> list[Tensor | None]:
    by_weights = None
    with torch.set_grad_enabled(learned):
        if learned:
            others = (others[0].detach().requires_grad_(), *others[1:])
        weights = weigh(inside, windows, *others)
    pairs = _pairs(weights, len(windows))
    cells, swaps = _sorted(inside, windows, pairs, note=True)
    if learned:
        each = [(gradient * one).sum_to_size(weight.shape) for weight, one in zip(weights, cells, strict=True)]
        (by_weights,) = torch.autograd.grad(weights, others[0], torch.stack(each))
        weights = weights.detach()
    # Back through the comparisons: what went in at one of two places came out at one of two.
    slopes = [gradient * weight if isinstance(weight, Tensor) or weight else None for weight in weights]
    for (i, j), swap in zip(reversed(pairs), reversed(swaps), strict=True):
        high, low = slopes[i], slopes[j]
        if low is None and high is not None:
            slopes[j] = high * swap
            slopes[i] = high - slopes[j]
        elif low is not None and high is None:
            slopes[i] = low * swap
            slopes[j] = low - slopes[i]
        elif high is not low:
            moved = (low - high).mul_(swap)
            slopes[i], slopes[j] = high + moved, low - moved
    result = torch.empty_like(windows)
    for cell, slope in zip(result, slopes, strict=True):
        cell.copy_(slope) if slope is not None else cell.zero_()
    return [result, *([by_weights] if learned else []), *[None] * (len(others) - learned)]


def _sorted(inside: Tensor | None, windows: Tensor, pairs: Pairs, note: bool) -> tuple[list[Tensor], list[Tensor]]:
    """The cells in falling order, as ``pairs`` go, 0 where there are none, and 1 where a pair swapped, if noted."""
    if inside is not None:
        # Outside of the map, where cells are 0, the least number comes last; times 0, unlike infinity, it is 0.
        windows = windows + (~inside).to(windows.dtype) * torch.finfo(windows.dtype).min
    cells, swaps = list(windows.unbind(0)), []
    for i, j in pairs:
        a, b = cells[i], cells[j]
        if note:
            swaps.append(greater(b, a))
        if differentiated():  # the gradient of torch's maximum is cut in two where both are equal
            cells[i], cells[j] = chosen(swaps[-1], a, b), chosen(swaps[-1], b, a)
        else:
            cells[i], cells[j] = torch.maximum(a, b), torch.minimum(a, b)
    if inside is not None:
        ranks = torch.arange(len(cells), device=windows.device).view(-1, *[1] * (windows.dim() - 1))
        cells = [one * there for one, there in zip(cells, (ranks < inside.sum(0)).to(windows.dtype), strict=True)]
    return cells, swaps


def _pairs(weights: Sequence[float] | Tensor, count: int) -> Pairs:
    return _network(count) if isinstance(weights, Tensor) else _needed(count, tuple(weights))


def _network(count: int) -> Pairs:
    """The comparisons of Batcher's merge exchange (Knuth, volume 3, 5.2.2, algorithm M), which sort ``count`` cells
    whatever they hold."""
    pairs = []
    top = 1 << max(0, (count - 1).bit_length() - 1)
    p = top
    while p > 0:
        q, r, d = top, 0, p
        while True:
            pairs += [(i, i + d) for i in range(count - d) if i & p == r]
            if q == p:
                break
            d, q, r = q - p, q // 2, p
        p //= 2
    return tuple(pairs)


def _needed(count: int, weights: tuple[float, ...]) -> Pairs:
    """The network without the last comparisons of cells that weigh the same."""
    pairs, still_free = [], set(range(count))
    for i, j in reversed(_network(count)):
        if {i, j} <= still_free and weights[i] == weights[j]:
            continue
        still_free -= {i, j}
        pairs.append((i, j))
    return tuple(reversed(pairs))
