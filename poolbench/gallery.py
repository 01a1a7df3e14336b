"""Pictures of what pools do: to an image, to its gradient, over repeated halvings, to the numbers of a small map."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from poolbench.data import pictures
from poolbench.pooling import create_pool

if TYPE_CHECKING:
    from matplotlib.axes import Axes

HALVINGS = 3  # 32 -> 16 -> 8 -> 4
WINDOWS = ("#f4b183", "#a9d18e", "#9dc3e6", "#ffd966")  # light, so that numbers can be read on them
NOTE = (
    "Each pool's output, the gradient of the output's sum back to the input, and two further halvings; of pools that "
    "draw also one draw, as in training. Gradient: red where a brighter input raises the sum, blue where it lowers it, "
    "white at 0, each on a scale of its own. Untrained: weights as they start. Rescaled: shown from its own least to "
    "its largest value."
)


@dataclass(frozen=True)
class Shown:
    """What one pool makes of an image ``(3, S, S)``."""

    name: str
    steps: list[Tensor]  # after each halving, (3, S / 2**i, S / 2**i) or about that; fewer if it refuses small maps
    gradient: Tensor | None  # of the sum of the first step, by the image, summed over channels, (S, S); None: none
    drawn: Tensor | None  # the first step as drawn in training, of a pool that draws
    learned: bool  # has it weights, which are still untrained?


def load_image(path: Path, size: int) -> Tensor:
    """An image file as ``(3, size, size)`` from 0 to 1: the middle square, transparent parts on white.

    Raises: ValueError for a file that is no image.
    """
    from PIL import Image, ImageOps
    from torchvision.transforms.functional import to_tensor

    try:
        with pictures.opened(path) as file:
            picture = pictures.upright(file).convert("RGBA")
    except FileNotFoundError as error:
        raise ValueError(f"there is no image {path}") from error
    except Exception as error:  # a broken file may raise nearly anything
        raise ValueError(f"{path} is not an image that can be read: {pictures.reason(error)}") from error
    white = Image.new("RGBA", picture.size, "white")
    picture = Image.alpha_composite(white, picture).convert("RGB")
    return to_tensor(ImageOps.fit(picture, (size, size), Image.Resampling.LANCZOS))


def scene(size: int = 32) -> Tensor:
    """A small scene ``(3, size, size)`` with what pools treat in different ways: slopes, an edge, fine and coarse
    texture, a thin line, isolated bright and dark dots."""
    rows, columns = torch.meshgrid(torch.linspace(0, 1, size), torch.linspace(0, 1, size), indexing="ij")
    sky = torch.stack([0.35 + 0.3 * rows, 0.55 + 0.25 * rows, 0.95 - 0.1 * rows])
    hill = rows > 0.62 + 0.12 * torch.sin(5 * columns)
    ground = torch.stack([0.25 + 0.1 * columns, 0.5 - 0.15 * rows, 0.2 + 0 * rows])
    x = torch.where(hill, ground, sky)
    disc = (rows - 0.25) ** 2 + (columns - 0.25) ** 2 < 0.02
    x = torch.where(disc, torch.tensor([1.0, 0.9, 0.4]).view(3, 1, 1), x)
    even = (torch.arange(size)[:, None] + torch.arange(size)) % 2 == 0
    fence = (rows > 0.72) & (columns < 0.4)
    x = torch.where(fence & even, 0.9, torch.where(fence, 0.1, x))
    wall = (rows > 0.45) & (rows < 0.85) & (columns > 0.6) & (columns < 0.9)
    x = torch.where(wall, torch.tensor([0.8, 0.35, 0.25]).view(3, 1, 1), x)
    window = wall & (rows > 0.52) & (rows < 0.64) & (columns > 0.68) & (columns < 0.8)
    x = torch.where(window, 0.05, x)
    x[:, :, size * 9 // 20] = torch.where(rows[:, 0] > 0.3, 0.15, x[:, :, size * 9 // 20])  # a pole
    for row, column, level in ((0.1, 0.8, 1.0), (0.2, 0.65, 1.0), (0.9, 0.75, 0.0), (0.95, 0.55, 1.0)):
        x[:, int(row * size), int(column * size)] = level
    return x


def show(name: str, image: Tensor, seed: int = 0) -> Shown:
    """What the pool called ``name`` (or at that dotted path) makes of ``image`` ``(3, S, S)`` with its first weights.

    Raises: ValueError as :func:`poolbench.create_pool` does, for an image that is too small, and for a pool that does
        not give as many maps as it takes.
    """
    side = image.shape[-1]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        pool = create_pool(name, channels=3).eval()
        x = image[None].clone().requires_grad_()
        y = _shrunk(pool, x, side / 2)
        gradient = torch.autograd.grad(y.sum(), x, allow_unused=True)[0] if y.requires_grad else None
        current = y.detach()
        steps = [current[0]]
        with torch.no_grad():
            for halving in range(2, HALVINGS + 1):
                try:
                    current = _shrunk(pool, current, side / 2**halving)
                except (ValueError, RuntimeError):  # the map has become too small for it
                    break
                steps.append(current[0])
            drawn = _shrunk(pool.train(), image[None], side / 2)[0] if getattr(pool, "random", False) else None
    learned = any(True for _ in pool.parameters())
    return Shown(name, steps, None if gradient is None else gradient[0].sum(0), drawn, learned)


def draw_gallery(image: Tensor, names: Sequence[str], path: Path, seed: int = 0) -> None:
    """One figure, ``path`` (PNG), in which every pool has a row of pictures: see :data:`NOTE`.

    Raises: ValueError as :func:`show` does; nothing is written then.
    """
    rows = [show(name, image, seed) for name in names]
    count = 1 if len(rows) <= 10 else 2 if len(rows) <= 24 else 3
    length = -(-len(rows) // count)
    groups = [rows[at : at + length] for at in range(0, len(rows), length)]
    cell, gap, label, head = 0.74, 0.07, 1.35, 1.75  # inches
    widths = [label + (cell + gap) * (4 + any(row.drawn is not None for row in group)) + 0.15 for group in groups]
    page = _Page(max(sum(widths), 6.4), head + length * (cell + gap) + 0.05)
    side = image.shape[-1]
    page.picture(0.1, 0.3, 1.1, image, title=f"input, {side}x{side}")
    page.text(1.4, 0.3, NOTE, wrap=(page.width - 1.5))
    titles = [f"{side // 2}x{side // 2}", "gradient", f"{side // 4}x{side // 4}", f"{side // 8}x{side // 8}", "a draw"]
    left = 0.0
    for group, width in zip(groups, widths, strict=True):
        for line, row in enumerate(group):
            top = head + line * (cell + gap)
            places = [left + label + column * (cell + gap) for column in range(5)]
            shown = [row.steps[0], None, *row.steps[1:]]
            scaled = False
            for column, x in enumerate(shown):
                if column == 1:
                    page.gradient(places[1], top, cell, row.gradient)
                else:
                    scaled |= page.picture(places[column], top, cell, x, like=image)
            if row.drawn is not None:
                scaled |= page.picture(places[4], top, cell, row.drawn, like=image)
            notes = ["untrained"] * row.learned + ["rescaled"] * scaled
            page.label(left + label - 0.08, top + cell / 2, row.name.rpartition(".")[2], ", ".join(notes))
        for place, title in zip(places, titles[: round((width - label) / (cell + gap))], strict=False):
            page.text(place + cell / 2, head - 0.05, title, align="center", anchor="baseline")
        left += width
    page.save(path)


def draw_windows(names: Sequence[str], path: Path, seed: int = 0) -> None:
    """The picture that every introduction shows, ``path`` (PNG or SVG): a 4x4 map, its 2x2 windows in colours, and what
    each pool makes of them.

    Raises: ValueError as :func:`poolbench.create_pool` does; nothing is written then.
    """
    numbers = torch.tensor([[1.0, 3.0, 2.0, 1.0], [4.0, 6.0, 0.0, 3.0], [0.0, 2.0, 7.0, 5.0], [1.0, 1.0, 8.0, 4.0]])
    results = []
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        for name in names:
            torch.manual_seed(seed)
            results.append(create_pool(name, channels=2).eval()(numbers.expand(1, 2, 4, 4).contiguous())[0, 0])
    across = min(5, len(names))
    down = -(-len(names) // across)
    cell, high = 0.45, 1.55  # inches: a number, a line of results
    height = max(4 * cell + 0.5, down * high + 0.1)
    page = _Page(4 * cell + 0.5 + across * 1.3, height)
    page.numbers(0.15, (height - 4 * cell) / 2 + 0.1, 4 * cell, numbers, lambda i, j: WINDOWS[i // 2 * 2 + j // 2])
    page.text(0.15 + 2 * cell, (height - 4 * cell) / 2, "map, 2x2 windows", align="center", anchor="baseline", size=9)
    for at, (name, result) in enumerate(zip(names, results, strict=True)):
        left = 0.15 + 4 * cell + 0.45 + at % across * 1.3
        top = (height - down * high) / 2 + at // across * high + 0.4
        quarters = tuple(result.shape) == (2, 2)
        page.numbers(left, top, 2 * cell, result, lambda i, j, own=quarters: WINDOWS[i * 2 + j] if own else "#e8e8e8")
        page.text(left + cell, top - 0.1, name.rpartition(".")[2], align="center", anchor="baseline", size=9)
    page.save(path)


class _Page:
    """A figure on which things stand at inches from the top left corner."""

    def __init__(self, width: float, height: float):
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure

        self.width, self.height = width, height
        self.figure = Figure(figsize=(width, height), dpi=120, facecolor="white")
        FigureCanvasAgg(self.figure)

    def square(self, left: float, top: float, side: float) -> "Axes":
        at = (left / self.width, 1 - (top + side) / self.height, side / self.width, side / self.height)
        axes = self.figure.add_axes(at)
        axes.set_xticks([])
        axes.set_yticks([])
        for spine in axes.spines.values():
            spine.set_linewidth(0.4)
        return axes

    def text(
        self,
        left: float,
        top: float,
        text: str,
        align: str = "left",
        anchor: str = "top",
        size: float = 8,
        colour: str = "black",
        wrap: float = 0,
    ) -> None:
        import textwrap

        if wrap:
            text = textwrap.fill(text, int(wrap * 72 / (size * 0.56)))  # a letter is about that wide
        at = (left / self.width, 1 - top / self.height)
        self.figure.text(*at, text, ha=align, va=anchor, fontsize=size, color=colour, linespacing=1.25)

    def label(self, right: float, middle: float, name: str, note: str) -> None:
        """A name, and under it in grey what to know of the pictures."""
        size = min(9.0, 9 * 17 / max(len(name), 1))
        self.text(right, middle - (0.06 if note else 0), name, "right", "center", size)
        self.text(right, middle + 0.1, note, "right", "center", 6.5, "#666666")

    def picture(
        self, left: float, top: float, side: float, x: Tensor, like: Tensor | None = None, title: str = ""
    ) -> bool:
        """Show ``(3, H, W)``. Returns: whether it was rescaled, as beyond 0 to 1 or much darker than ``like``."""
        low, high = x.min().item(), x.max().item()
        scaled = like is not None and (low < -0.1 or high > 1.1 or x.mean() < 0.5 * like.mean())
        if scaled:
            x = (x - low) / max(high - low, 1e-12)
        axes = self.square(left, top, side)
        axes.imshow(x.clamp(0, 1).permute(1, 2, 0).numpy(), interpolation="nearest", aspect="auto")
        if title:
            axes.set_title(title, fontsize=8, pad=3)
        return scaled

    def gradient(self, left: float, top: float, side: float, x: Tensor | None) -> None:
        axes = self.square(left, top, side)
        if x is None:
            axes.text(0.5, 0.5, "none", ha="center", va="center", fontsize=7, transform=axes.transAxes)
            return
        size = x.abs().flatten()
        # A few far larger ones would leave the others white.
        limit = 1.3 * max(size.quantile(0.99).item() or size.max().item(), 1e-12)
        axes.imshow(x.numpy(), cmap="RdBu_r", vmin=-limit, vmax=limit, interpolation="nearest", aspect="auto")

    def numbers(self, left: float, top: float, side: float, map: Tensor, colour: Callable[[int, int], str]) -> None:
        from matplotlib.patches import Rectangle

        axes = self.square(left, top, side)
        axes.axis("off")
        height, width = map.shape
        size = min(10.0, 20 * side / 0.9 / max(map.shape))
        for i in range(height):
            for j in range(width):
                axes.add_patch(Rectangle((j, i), 1, 1, facecolor=colour(i, j), edgecolor="white", linewidth=1.5))
                axes.text(j + 0.5, i + 0.5, _short(map[i, j].item()), ha="center", va="center", fontsize=size)
        axes.set_xlim(0, width)
        axes.set_ylim(height, 0)

    def save(self, path: Path) -> None:
        import matplotlib

        path.parent.mkdir(parents=True, exist_ok=True)
        with matplotlib.rc_context({"svg.hashsalt": "poolbench"}):  # else every drawing has other names inside
            self.figure.savefig(path, metadata={"Date": None} if path.suffix == ".svg" else {"Software": None})


def _shrunk(pool: nn.Module, x: Tensor, side: float) -> Tensor:
    """``x`` pooled until its sides are about ``side``, which takes a pool of a small ratio more than one pass."""
    while x.shape[-1] > 1.25 * side:
        y = pool(x)
        if not isinstance(y, Tensor) or y.ndim != 4 or y.shape[1] != x.shape[1]:
            got = tuple(y.shape) if isinstance(y, Tensor) else type(y).__name__
            raise ValueError(
                f"pool {type(pool).__name__} makes {got} of {tuple(x.shape)}; the gallery shows pools that give as "
                "many maps as they take"
            )
        if y.shape[-1] >= x.shape[-1]:
            return y
        x = y
    return x


def _short(value: float) -> str:
    """A number in about four characters."""
    text = f"{value:.2f}".rstrip("0").rstrip(".") if abs(value) < 1000 else f"{value:.0e}"
    return "0" if text in ("-0", "") else text
