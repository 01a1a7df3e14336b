"""What a pool says of itself, held against what it does."""

import math

import torch

from poolbench.testing.face import (
    CHANNELS,
    Failed,
    Maker,
    Skipped,
    compare,
    declared,
    inner,
    new,
    run,
    steps,
    takes,
)


def constants(make: Maker) -> None:
    """It keeps constant maps exactly if it says ``keeps_constants``."""
    pool = new(make)
    worst = 0.0
    for level in (0.0, 0.5, 3.0):
        y = inner(pool, run(pool, torch.full((2, CHANNELS, 16, 16), level)))
        worst = max(worst, (y - level).abs().max().item())
    declared(pool, "keeps_constants", worst < 1e-4, f"a constant map is kept (the largest deviation is {worst:.2g})")


def channels(make: Maker) -> None:
    """An output channel sees other channels exactly if it says ``mixes_channels``; likewise for their order."""
    pool, x = new(make), torch.rand(2, CHANNELS, 8, 8) * 4
    other = x.clone()
    other[:, 0] += torch.rand(2, 8, 8) * 4
    change = (run(pool, x) - run(pool, other)).abs().amax((0, 2, 3))
    if not change[0] > 0:
        raise Failed("a change of a channel does not change its output")
    declared(pool, "mixes_channels", bool((change[1:] > 0).any()), "a change of channel 0 changes other channels")
    order = [2, 0, 3, 1]
    alike = torch.allclose(run(pool, x[:, order]), run(pool, x)[:, order], rtol=1e-4, atol=1e-5)
    declared(pool, "treats_channels_alike", alike, "permuting the channels permutes the output")


def bounds(make: Maker) -> None:
    """The output stays between the least and the largest value of the map exactly if it says ``bounded``."""
    pool = new(make)
    axes = (1, 2, 3) if getattr(pool, "mixes_channels", False) else (2, 3)
    # Small maps, so that an output beyond its window is beyond the map too; and steps, at which filters ring.
    small = torch.randn(256, CHANNELS, 4, 4)
    beyond = -math.inf
    for x in (small, 1 + small.abs() / 8, -1 - small.abs() / 8, (torch.rand(64, CHANNELS, 8, 8) < 0.5).float()):
        if takes(pool, (x.shape[2], x.shape[3])):
            y = run(pool, x)
            less, more = x.amin(axes, keepdim=True) - y, y - x.amax(axes, keepdim=True)
            beyond = max(beyond, less.max().item(), more.max().item())
    declared(pool, "bounded", beyond < 1e-5, f"no output leaves the range of its map (the worst by {beyond:.2g})")


def oddness(make: Maker) -> None:
    """f(-x) = -f(x) exactly if it says ``odd``."""
    pool, x = new(make), torch.randn(2, CHANNELS, 8, 8)
    compare(pool, "odd", run(pool, -x), -run(pool, x), "f(-x) = -f(x)")


def homogeneity(make: Maker) -> None:
    """f(3 x) = 3 f(x) exactly if it says ``homogeneous``."""
    pool, x = new(make), torch.randn(2, CHANNELS, 8, 8)
    compare(pool, "homogeneous", run(pool, 3 * x), 3 * run(pool, x), "f(3 x) = 3 f(x)")


def offsets(make: Maker) -> None:
    """f(x + 2) = f(x) + 2 exactly if it says ``follows_offset``."""
    pool, x = new(make), torch.randn(4, CHANNELS, 16, 16)
    both = (inner(pool, run(pool, x + 2)), inner(pool, run(pool, x)) + 2)
    compare(pool, "follows_offset", *both, "f(x + 2) = f(x) + 2")


def signs(make: Maker) -> None:
    """Maps that are nowhere negative give such maps exactly if it says ``keeps_sign``."""
    # Sparse ones too: what overshoots does so at edges.
    pool, x = new(make), torch.rand(64, CHANNELS, 8, 8)
    x = torch.cat([x, x * (torch.rand_like(x) < 0.2)])
    least = run(pool, x).min().item()
    declared(pool, "keeps_sign", least >= -1e-6, f"x >= 0 gives f(x) >= 0 (the least value is {least:.2g})")


def mirrors(make: Maker) -> None:
    """It commutes with a horizontal mirror of a map of which nothing is cropped exactly if it says ``mirrors``."""
    pool = new(make)
    sides = (8 * step if step > 1 else 16 for step in steps(pool) or (2, 2))  # nothing is cropped
    x = torch.randn(2, CHANNELS, *sides)
    both = [run(pool, x.flip(3)), run(pool, x).flip(3)]
    compare(pool, "mirrors", *both, "the mirrored map gives the mirrored output")


def stationarity(make: Maker) -> None:
    """Moving the input by a stride moves the output by a pixel exactly if it says ``stationary``."""
    pool = new(make)
    by = steps(pool)
    if by is None:
        ratio = getattr(pool, "ratio", None)
        by = (int(ratio), int(ratio)) if isinstance(ratio, float | int) and float(ratio).is_integer() else None
    if not by or min(by) < 1:
        raise Skipped("it has no whole stride by which the input could be moved")
    x = torch.zeros(2, CHANNELS, *(16 * step for step in by))
    rows, columns = (slice(5 * step, 11 * step) for step in by)  # far from the border, which is treated in many ways
    x[..., rows, columns] = torch.randn(2, CHANNELS, *(6 * step for step in by))
    moved = run(pool, x.roll(by, (2, 3)))
    compare(pool, "stationary", moved, run(pool, x).roll((1, 1), (2, 3)), "a moved map gives the moved output")
