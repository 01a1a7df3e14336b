"""Pooling the slow and obvious way, window by window, and the windows to try it on."""

import torch
from hypothesis import assume
from hypothesis import strategies as st


def both(value):
    """``(rows, columns)`` of a number or of such a pair."""
    return (value, value) if isinstance(value, int) else value


def cells_of(options):
    """How many cells a window of these ``options`` has."""
    rows, columns = both(options["kernel_size"])
    return rows * columns


def by_loop(x, of_window, kernel_size, stride, padding=0):
    """``of_window`` takes the cells of one window inside the map, ``(N, C, cells)``, to ``(N, C)``."""
    (high, wide), (down, right), (top, left) = both(kernel_size), both(stride), both(padding)
    height, width = x.shape[-2] // down, x.shape[-1] // right

    def cells(i, j):
        rows = slice(max(0, i * down - top), i * down - top + high)
        columns = slice(max(0, j * right - left), j * right - left + wide)
        return x[..., rows, columns].flatten(2)

    return torch.stack(
        [torch.stack([of_window(cells(i, j)) for j in range(width)], dim=-1) for i in range(height)], dim=-2
    )


@st.composite
def geometries(draw, largest_kernel=6):
    """Options ``kernel_size, stride, padding``: even and odd, narrower and much wider than the step, square or not."""
    sides = [_side(draw, largest_kernel) for _ in range(draw(st.integers(1, 2)))]
    (first, last) = sides[0], sides[-1]
    return {option: first[option] if len(sides) == 1 else (first[option], last[option]) for option in first}


def _side(draw, largest_kernel):
    kernel_size = draw(st.integers(1, largest_kernel))
    return {
        "kernel_size": kernel_size,
        "stride": draw(st.integers(1, 4)),
        "padding": draw(st.integers(0, kernel_size // 2)),
    }


@st.composite
def maps(draw, kernel_size=1, stride=1, padding=0):
    """float64 maps that these windows can serve: batch 1, one channel, odd sides, both memory formats."""
    size = draw(st.integers(1, 12)), draw(st.integers(1, 12))
    for side, window, step, border in zip(size, both(kernel_size), both(stride), both(padding), strict=True):
        assume(side >= step)
        assume(window <= side + 2 * border + step - 1)
    draw(st.random_module())  # for what the test draws itself: weights, directions
    shape = (draw(st.integers(1, 3)), draw(st.integers(1, 3)), *size)
    x = torch.randn(shape, generator=torch.Generator().manual_seed(draw(st.integers(0, 99))), dtype=torch.float64)
    # As it is; with ties and windows of zeros, as after a ReLU; negative, below whatever a border is filled with.
    x = draw(st.sampled_from([x, x.relu(), x - 5]))
    return x.to(memory_format=draw(st.sampled_from([torch.contiguous_format, torch.channels_last])))


@st.composite
def geometries_and_maps(draw):
    """``(options, map)``."""
    options = draw(geometries())
    return options, draw(maps(**options))
