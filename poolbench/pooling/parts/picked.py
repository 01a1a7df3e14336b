"""The maximum over picked rows and columns: the windows of pools whose steps are drawn."""

from collections.abc import Sequence

import torch
from torch import Tensor

from poolbench.pooling.parts.images import over_images


def max_of_picked(x: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """Maximum of the cells where picked rows and columns cross; of equal ones the first gets the gradient.

    Args:
        x: ``(N, C, H, W)``.
        rows, columns: ``(N or 1, K, H')`` and ``(N or 1, K, W')``: along its axis the window of output ``i`` holds
            the cells at ``[:, :, i]``, in rising order. Along the last axis the positions rise strictly.
    Returns: ``(N, C, H', W')`` in the memory format of ``x``.
    """
    rows, columns = (one.expand(x.shape[0], -1, -1) for one in (rows, columns))
    return over_images(_plain, x, (rows, columns), fast=_forward, slope=_slope)[0]


def _plain(x: Tensor, rows: Tensor, columns: Tensor) -> tuple[Tensor]:
    for axis, picks in ((2, rows[:, :, None, :, None]), (3, columns[:, :, None, None, :])):
        shape = [-1 if one == axis else x.shape[one] for one in range(4)]
        y, *others = (x.gather(axis, one.expand(shape)) for one in picks.unbind(1))
        for cells in others:
            y = torch.where((cells > y) | cells.isnan(), cells, y)
        x = y
    return (x,)


# Laid out as (N, H, W, C), a row is one piece of memory and so is a cell with its channels: picking is copying pieces.


def _forward(x: Tensor, rows: Tensor, columns: Tensor) -> tuple[Tensor]:
    height, width = rows.shape[-1], columns.shape[-1]
    lines = _largest(_pick(*_rows(x, rows)))
    y = _largest(_pick(*_columns(lines, x, columns, height)))
    return (y.view(len(x), height, width, -1).movedim(-1, 1),)


def _slope(gradients: Sequence[Tensor | None], x: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    (gradient,) = gradients
    flat_rows, at_rows = _rows(x, rows)
    picked_rows = _pick(flat_rows, at_rows)
    lines = _largest(list(picked_rows))
    flat_cells, at_cells = _columns(lines, x, columns, rows.shape[-1])
    gradient = gradient.movedim(1, -1).reshape(-1, x.shape[1])
    gradient = _put_back(gradient, flat_cells, _pick(flat_cells, at_cells), at_cells)
    gradient = _put_back(gradient.view(lines.shape), flat_rows, picked_rows, at_rows)
    return gradient.view(len(x), x.shape[2], x.shape[3], -1).movedim(-1, 1)


def _rows(x: Tensor, rows: Tensor) -> tuple[Tensor, Tensor]:
    """The rows of all images ``(N H, W C)`` and where the picked ones are, ``(K, N H')``."""
    first = torch.arange(len(x), device=x.device)[:, None, None] * x.shape[2]
    return x.movedim(1, -1).reshape(-1, x.shape[3] * x.shape[1]), (first + rows).movedim(1, 0).flatten(1)


def _columns(lines: Tensor, x: Tensor, columns: Tensor, height: int) -> tuple[Tensor, Tensor]:
    """The cells of the pooled rows ``(N H' W, C)`` and where the picked ones are, ``(K, N H' W')``."""
    first = torch.arange(len(x) * height, device=x.device).view(-1, height, 1) * x.shape[3]
    return lines.view(-1, x.shape[1]), (first + columns.movedim(1, 0).unsqueeze(2)).flatten(1)


def _pick(flat: Tensor, positions: Tensor) -> list[Tensor]:
    return [flat.index_select(0, one) for one in positions]


def _largest(cells: list[Tensor]) -> Tensor:
    y = cells[0]
    for one in cells[1:]:
        y = torch.maximum(y, one)
    return y


def _put_back(gradient: Tensor, flat: Tensor, cells: list[Tensor], positions: Tensor) -> Tensor:
    """The gradient of ``flat`` for that of the maximum of its picked ``cells``."""
    y, wins = cells[0], []
    for one in cells[1:]:
        wins.append(torch.gt(one, y))
        y = torch.maximum(y, one)
    shares = []
    for won in reversed(wins):
        shares.append(gradient * won)
        gradient = gradient - shares[-1]
    result = torch.zeros_like(flat).index_copy_(0, positions[0], gradient)
    for share, one in zip(reversed(shares), positions[1:], strict=True):
        result.index_copy_(0, one, share.add_(result.index_select(0, one)))
    return result
