"""Pictures of what pools do: to an image, to its gradient, over repeated halvings, to the numbers of a small map."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from poolbench.pooling import create_pool

HALVINGS = 3  # 32 -> 16 -> 8 -> 4


@dataclass(frozen=True)
class Shown:
    """What one pool makes of an image ``(3, S, S)``."""

    name: str
    steps: list[Tensor]  # after each halving, (3, S / 2**i, S / 2**i) or about that
    gradient: Tensor  # of the sum of the first output, by the image, summed over channels: (S, S)
    drawn: Tensor | None  # the first step as drawn in training, of a pool that draws
    learned: bool  # has it weights that start at random or untrained?


def load_image(path: Path, size: int) -> Tensor:
    """An image file as ``(3, size, size)`` from 0 to 1: the middle square, transparent parts on white.

    Raises: ValueError for a file that is no image.
    """
    from PIL import Image, ImageOps, UnidentifiedImageError
    from torchvision.transforms.functional import to_tensor

    try:
        with Image.open(path) as file:
            picture = ImageOps.exif_transpose(file).convert("RGBA")
    except FileNotFoundError as error:
        raise ValueError(f"there is no image {path}") from error
    except (UnidentifiedImageError, OSError) as error:
        raise ValueError(f"{path} is not an image that can be read: {error}") from error
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

    Raises: ValueError as :func:`poolbench.create_pool` does, and for an image that is too small.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        pool = create_pool(name, channels=3).eval()
        x = image[None].clone().requires_grad_()
        y = pool(x)
        (gradient,) = torch.autograd.grad(y.sum(), x)
        steps, current = [], image[None]
        with torch.no_grad():
            for halving in range(1, HALVINGS + 1):
                target = image.shape[-1] / 2**halving
                # A pool of a smaller ratio takes more than one step to get there.
                while current.shape[-1] > target * 1.25 and min(current.shape[-2:]) > 1:
                    smaller = pool(current)
                    if smaller.shape[-1] >= current.shape[-1]:
                        break
                    current = smaller
                steps.append(current[0])
            drawn = pool.train()(image[None])[0] if getattr(pool, "random", False) else None
    return Shown(name, steps, gradient[0].sum(0), drawn, any(True for _ in pool.parameters()))


def draw_gallery(image: Tensor, names: Sequence[str], path: Path, seed: int = 0) -> None:
    """One figure, ``path`` (PNG): a row a pool with its output, the gradient back to the image, the further halvings,
    and for a pool that draws one of its draws."""
    rows = [show(name, image, seed) for name in names]
    groups = 1 if len(rows) <= 8 else 2 if len(rows) <= 24 else 3
    length = -(-len(rows) // groups)
    side = image.shape[-1]
    titles = [f"{side // 2}", "gradient", f"{side // 4}", f"{side // 8}", "drawn"]
    plt = _pyplot()
    figure = plt.figure(figsize=(groups * 5.6, 1.6 + length * 0.92), dpi=110)
    outer = figure.add_gridspec(
        length + 1, groups * 6, width_ratios=[1.5, 1, 1, 1, 1, 1] * groups, wspace=0.08, hspace=0.12
    )
    top = figure.add_subplot(outer[0, :2])
    _picture(top, image)
    top.set_title(f"input, {side}x{side}", fontsize=9)
    note = figure.add_subplot(outer[0, 2:])
    note.axis("off")
    note.text(
        0.02,
        0.5,
        "Each row: the output, the gradient of its sum back to the input (red up, blue down, white 0),\n"
        "further halvings, and a draw as in training. * weights untrained; ' scaled to its own range.",
        fontsize=8,
        va="center",
    )
    for number, row in enumerate(rows):
        group, line = divmod(number, length)
        axes = [figure.add_subplot(outer[line + 1, group * 6 + column]) for column in range(6)]
        axes[0].axis("off")
        scaled = False
        for axis, content in zip(axes[1:], (row.steps[0], None, row.steps[1], row.steps[2], row.drawn), strict=True):
            if axis is axes[2]:
                limit = 1.3 * row.gradient.abs().max().clamp(min=1e-12).item()
                axis.imshow(row.gradient.numpy(), cmap="RdBu_r", vmin=-limit, vmax=limit, interpolation="nearest")
                _frame(axis)
            elif content is None:
                axis.axis("off")
            else:
                scaled |= _picture(axis, content)
        name = row.name.rpartition(".")[2]
        axes[0].text(1, 0.5, f"{name}{' *' if row.learned else ''}{chr(39) if scaled else ''}", fontsize=9,
                     ha="right", va="center", transform=axes[0].transAxes)  # fmt: skip
        if line == 0:
            for axis, title in zip(axes[1:], titles, strict=True):
                axis.set_title(title, fontsize=8)
    _save(figure, path)


def draw_windows(names: Sequence[str], path: Path) -> None:
    """The picture that every introduction shows, ``path`` (PNG or SVG): a 4x4 map, its 2x2 windows in colours, and what
    each pool makes of them."""
    numbers = torch.tensor([[1.0, 3.0, 2.0, 1.0], [4.0, 6.0, 0.0, 3.0], [0.0, 2.0, 7.0, 5.0], [1.0, 1.0, 8.0, 4.0]])
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(0)
        pools = [create_pool(name, channels=2).eval() for name in names]
        results = [pool(numbers.expand(1, 2, 4, 4).contiguous())[0, 0] for pool in pools]
    colours = ["#f4b183", "#a9d18e", "#9dc3e6", "#ffd966"]
    plt = _pyplot()
    figure, axes = plt.subplots(
        1, 1 + len(results), figsize=(2.6 + 1.9 * len(results), 2.7), dpi=120, width_ratios=[2, *[1] * len(results)]
    )
    _numbers(axes[0], numbers, lambda i, j: colours[i // 2 * 2 + j // 2])
    axes[0].set_title("4x4 map, 2x2 windows", fontsize=9)
    for axis, name, result in zip(axes[1:], names, results, strict=True):
        quarters = tuple(result.shape) == (2, 2)
        _numbers(axis, result, lambda i, j: colours[i * 2 + j] if quarters else "#eeeeee")  # noqa: B023 - drawn at once
        axis.set_title(name.rpartition(".")[2], fontsize=9)
    _save(figure, path)


def _numbers(axis: Any, map: Tensor, colour: Any) -> None:
    height, width = map.shape
    for i in range(height):
        for j in range(width):
            from matplotlib.patches import Rectangle

            axis.add_patch(Rectangle((j, i), 1, 1, facecolor=colour(i, j), edgecolor="white", linewidth=2))
            axis.text(j + 0.5, i + 0.5, f"{map[i, j].item():.4g}"[:5], ha="center", va="center", fontsize=10)
    axis.set_xlim(0, width)
    axis.set_ylim(height, 0)
    axis.set_aspect("equal")
    axis.axis("off")


def _picture(axis: Any, x: Tensor) -> bool:
    """Show ``(3, H, W)``. Returns: whether its range had to be scaled to 0 to 1."""
    low, high = x.min().item(), x.max().item()
    scaled = low < -0.15 or not 0.45 < high < 1.15
    if scaled:
        x = (x - low) / max(high - low, 1e-12)
    axis.imshow(x.clamp(0, 1).permute(1, 2, 0).numpy(), interpolation="nearest")
    _frame(axis)
    return scaled


def _frame(axis: Any) -> None:
    axis.set_xticks([])
    axis.set_yticks([])
    for spine in axis.spines.values():
        spine.set_linewidth(0.4)


def _pyplot() -> Any:
    import matplotlib

    matplotlib.use("agg")
    matplotlib.rcParams["svg.hashsalt"] = "poolbench"  # else every drawing has other names inside
    from matplotlib import pyplot

    return pyplot


def _save(figure: Any, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    metadata = {"Date": None} if path.suffix == ".svg" else {"Software": None}
    figure.savefig(path, bbox_inches="tight", metadata=metadata)
    _pyplot().close(figure)


def modules(names: Sequence[str]) -> list[nn.Module]:
    """The pools called ``names`` for images, so that a wrong name is known before anything is drawn.

    Raises: ValueError as :func:`poolbench.create_pool` does.
    """
    return [create_pool(name, channels=3) for name in names]
