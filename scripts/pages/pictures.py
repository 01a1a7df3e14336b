"""The pictures of ``docs/pools``: one map, and what each pool makes of it."""

import hashlib
import inspect
import json
from typing import Any

import numpy as np
import torch

from pages.docstrings import ROOT
from poolbench.pooling import create_pool

PICTURES = ROOT / "docs/pools"
NUMBERS = PICTURES / "pictures.json"
TOLERANCE = 0.002  # between the numbers in a picture and those of today, which are rounded to 0.001


def picture_map() -> torch.Tensor:
    """The map of the pictures, ``(1, 1, 8, 8)``, from 0 to 1: a slope, an edge, a bright dot, a fine texture."""
    rows, columns = torch.meshgrid(torch.arange(8.0), torch.arange(8.0), indexing="ij")
    x = 0.1 + 0.3 * columns / 7
    x = torch.where((rows >= 4) & (columns < 4), 0.2 + 0.4 * ((rows + columns) % 2), x)
    x = torch.where((rows >= 3) & (columns >= 5), 0.9, x)
    x[1, 2] = 1.0
    return x[None, None]


def pictured(name: str) -> torch.Tensor:
    """What the pool makes of :func:`picture_map`, ``(H', W')``, rounded: the first of four channels, or the first in
    which there is something to see. The others get the map moved by whole strides, since normalising over channels that
    are alike would leave nothing."""
    x = picture_map()
    maps = torch.cat([x, *(x.roll(by, dims=(2, 3)) for by in ((2, 0), (0, 2), (2, 2)))], dim=1)
    torch.manual_seed(0)
    pool = create_pool(name, channels=4).eval()
    with torch.no_grad():
        y = pool(maps)[0]
    shown = next((channel for channel in y if channel.max() - channel.min() > 0.01), y[0])
    return (shown.double() * 1000).round() / 1000 + 0.0  # no -0


def shown_numbers() -> dict[str, Any]:
    """The numbers in the pictures that are there; none if they were drawn in another way."""
    known = json.loads(NUMBERS.read_text(encoding="utf-8")) if NUMBERS.exists() else {}
    return known["numbers"] if known.get("drawn by") == drawn_by() else {}


def drawn_by() -> str:
    """A name for how pictures are drawn: the hash of the code that does it."""
    text = inspect.getsource(draw) + inspect.getsource(picture_map)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def alike(shown: list[list[float]] | None, numbers: list[list[float]]) -> bool:
    """Are these the numbers that are shown, last digits apart?"""
    if shown is None or [len(row) for row in shown] != [len(row) for row in numbers]:
        return False
    return (torch.tensor(shown) - torch.tensor(numbers)).abs().max().item() <= TOLERANCE


def draw(name: str, numbers: list[list[float]]) -> None:
    """The map and what is made of it, side by side, the latter with its numbers."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(4.4, 2.4), dpi=100, layout="constrained")
    FigureCanvasAgg(figure)
    for axes, values in zip(figure.subplots(1, 2), (picture_map()[0, 0].numpy(), np.array(numbers)), strict=True):
        low, high = values.min(), values.max()
        own = low < 0 or high > 1.05 or high < 0.4
        low, high = (low, max(high, low + 1e-6)) if own else (0.0, 1.0)
        axes.imshow(values, cmap="magma", vmin=low, vmax=high, interpolation="nearest")
        axes.set_title(f"{values.shape[0]}x{values.shape[1]}{', in its own range' if own else ''}", fontsize=8)
        axes.set_xticks([])
        axes.set_yticks([])
        if len(values) < 8:
            for (row, column), value in np.ndenumerate(values):
                ink = "black" if (value - low) / (high - low) > 0.6 else "white"
                axes.text(column, row, f"{value + 0.0:.2f}", ha="center", va="center", fontsize=7.5, color=ink)
    figure.savefig(PICTURES / f"{name}.png", metadata={"Software": None})
