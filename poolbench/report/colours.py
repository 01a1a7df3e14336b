"""One colour for each pool, the same in every figure of every run as far as no other pool of a figure has it.

The colours are those of Okabe and Ito (2008) and of Paul Tol's scheme "muted" (2021), less the light ones, in an order
of falling distance as seen with normal, protanope and deuteranope eyes (Machado, Oliveira and Fernandes 2009).
"""

import hashlib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

# The pools that are at home in a colour. Of those in one figure the first has it: what meets most often stands there.
_POOLS = {
    "#000000": ("max", "space_to_depth"),
    "#E69F00": ("lp", "soft", "log_sum_exp", "wavelet"),
    "#0072B2": ("average", "ada", "blur_average", "gaussian"),
    "#009E73": ("overlapping", "dpp", "blur_max", "average_conv"),
    "#D55E00": ("strided_conv", "lift", "blur_conv"),
    "#661100": ("native", "tree", "spectral", "median"),
    "#56B4E9": ("stochastic", "lip", "power_mean", "hwd", "gaussian_stochastic"),
    "#332288": ("mixed", "polyphase", "rank", "lps", "global_guided"),
    "#882255": ("gated", "fuzzy", "carafe", "adown", "depthwise_conv"),
    "#CC79A7": ("fractional_max", "attention", "ordinal", "patch_merge", "l2_hann"),
    "#999933": ("s3", "diff_stride", "regularized", "tips", "balanced_stride"),
    "#777777": ("subsample", "leap", "convnext_down", "max_conv"),
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
    """A style for each of ``pools``; up to twelve differ in colour and in marker, beyond that in the pair of both.

    A pool has the colour that its name is at home in, one with options, ``lp(p=3.0)``, that of the pool without them.
    Where two want one colour, it is the first's: of the pools of the table, of those with options, of others by their
    names. The later one takes a free colour, from the last of ``COLOURS``, in which the rarest pools are at home.
    """
    homes = {pool: _home(pool) for pool in sorted(set(pools), key=lambda pool: (*_home(pool)[::2], pool))}
    colours = _shared_out({pool: home.colour for pool, home in homes.items()}, reversed(range(len(COLOURS))))
    wanted = {pool: (colour + homes[pool].place) % len(MARKERS) for pool, colour in colours.items()}
    markers = _shared_out(wanted, range(len(MARKERS)))
    chosen = {pool: (colour, markers[pool]) for pool, colour in colours.items()}
    for pool in [pool for pool in homes if pool not in chosen]:  # beyond twelve: a pair that nobody has
        chosen[pool] = _free_pair(homes[pool], list(chosen.values()))
    return {
        pool: Style(COLOURS[colour], MARKERS[marker], DASHES[marker % len(DASHES)])
        for pool, (colour, marker) in chosen.items()
    }


def contrast_with_white(parts: Sequence[int]) -> float:
    """Contrast of a colour (red, green, blue, 0 to 255) with white, 1 to 21 (WCAG 2, relative luminance of sRGB)."""
    linear = [part / 255 / 12.92 if part <= 10 else ((part / 255 + 0.055) / 1.055) ** 2.4 for part in parts]
    return 1.05 / (0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2] + 0.05)


class _Home(NamedTuple):
    """Where a pool stands when nobody is in its way."""

    rank: int
    colour: int
    place: int


_KNOWN = {name: (colour, place) for colour, names in enumerate(_POOLS.values()) for place, name in enumerate(names)}


def _home(pool: str) -> _Home:
    if pool in _KNOWN:
        return _Home(0, *_KNOWN[pool])
    number = int.from_bytes(hashlib.sha256(pool.encode()).digest()[:4], "big")
    place = number // len(COLOURS) % len(MARKERS)
    plain = pool.partition("(")[0]
    return _Home(1, _KNOWN[plain][0], place) if plain in _KNOWN else _Home(2, number % len(COLOURS), place)


def _shared_out(wanted: Mapping[str, int], free: Iterable[int]) -> dict[str, int]:
    """Each pool's wish, or the next of ``free`` where an earlier one has it; without those for whom nothing is left."""
    first: dict[int, str] = {}
    for pool, wish in wanted.items():
        first.setdefault(wish, pool)
    given = {pool: wish for wish, pool in first.items()}
    rest = (number for number in free if number not in first)
    return given | dict(zip((pool for pool in wanted if pool not in given), rest, strict=False))


def _free_pair(home: _Home, taken: Sequence[tuple[int, int]]) -> tuple[int, int]:
    """A colour that the fewest have, the own one if it is among these, and a marker that nobody has in it."""
    uses = Counter(colour for colour, _ in taken)
    colour = min(range(len(COLOURS)), key=lambda colour: (uses[colour], (colour - home.colour) % len(COLOURS)))
    steps = [(colour + home.place + step) % len(MARKERS) for step in range(len(MARKERS))]
    return colour, next((marker for marker in steps if (colour, marker) not in taken), steps[0])
