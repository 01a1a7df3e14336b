"""One colour for each pool, the same in every figure of every run; marker and line style tell apart what shares one.

The colours are those of Okabe and Ito (2008) and of Paul Tol's scheme "muted" (2021), less the light ones, in an order
of falling distance as seen with normal, protanope and deuteranope eyes (Machado, Oliveira and Fernandes 2009).
"""

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

# Pools that share a colour differ in marker and line style. Those that meet most often stand in the first place.
_POOLS = {
    "#000000": ("max", "native", "space_to_depth"),
    "#E69F00": ("lp", "soft", "log_sum_exp", "wavelet"),
    "#0072B2": ("average", "ada", "blur_average", "gaussian"),
    "#009E73": ("overlapping", "dpp", "blur_max"),
    "#D55E00": ("strided_conv", "lift", "blur_conv"),
    "#661100": ("tree", "spectral", "median"),
    "#56B4E9": ("stochastic", "lip", "power_mean", "hwd"),
    "#332288": ("mixed", "polyphase", "rank", "lps"),
    "#882255": ("gated", "fuzzy", "carafe", "adown"),
    "#CC79A7": ("fractional_max", "attention", "ordinal", "patch_merge"),
    "#999933": ("s3", "diff_stride", "regularized", "tips"),
    "#777777": ("subsample", "leap", "convnext_down"),
}
COLOURS = tuple(_POOLS)
MARKERS = "os^DvX<>ph*d"
DASHES = ("-", (0, (5, 1.5)), (0, (6, 1.5, 1.5, 1.5)), (0, (1.5, 1)))


@dataclass(frozen=True)
class Style:
    """How a pool is drawn: a colour (#rrggbb), a matplotlib marker and a line style."""

    colour: str
    marker: str
    dash: str | tuple[int, tuple[float, ...]]

    @property
    def ink(self) -> str:
        """The colour, darkened as far as text on white needs it (contrast 4.5, the web's rule for reading)."""
        parts = [int(self.colour[at : at + 2], 16) for at in (1, 3, 5)]
        while contrast_with_white(parts) < 4.5:
            parts = [int(0.95 * part) for part in parts]
        return "#" + "".join(f"{part:02X}" for part in parts)


def styles(pools: Iterable[str]) -> dict[str, Style]:
    """A style for each of ``pools``. The colour depends on the name alone; where two pools of one figure share it, the
    later one in the alphabet moves on to the next marker and line style."""
    taken: set[tuple[int, int]] = set()
    chosen = {}
    for pool in sorted(pools, key=lambda pool: (pool not in _KNOWN, pool)):
        colour, place = _KNOWN.get(pool) or _from_name(pool)
        turns = [(place + turn) % len(MARKERS) for turn in range(len(MARKERS))]
        place = next((turn for turn in turns if (colour, turn) not in taken), place)  # Beyond 12 of a colour: repeat.
        taken.add((colour, place))
        marker = MARKERS[(colour + place) % len(MARKERS)]
        chosen[pool] = Style(COLOURS[colour], marker, DASHES[(colour + place) % len(DASHES)])
    return chosen


def contrast_with_white(parts: Sequence[int]) -> float:
    """Contrast of a colour (red, green, blue, 0 to 255) with white, 1 to 21 (WCAG 2, relative luminance of sRGB)."""
    linear = [part / 255 / 12.92 if part <= 10 else ((part / 255 + 0.055) / 1.055) ** 2.4 for part in parts]
    return 1.05 / (0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2] + 0.05)


_KNOWN = {name: (colour, place) for colour, names in enumerate(_POOLS.values()) for place, name in enumerate(names)}


def _from_name(pool: str) -> tuple[int, int]:
    number = int.from_bytes(hashlib.sha256(pool.encode()).digest()[:4], "big")
    return number % len(COLOURS), number // len(COLOURS) % len(MARKERS)
