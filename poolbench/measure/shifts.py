"""How a net and its pools bear shifts: consistency of the class, and where in the net what a shift changes is removed.

Consistency after Zhang (2019). What single pools do after Ruderman, Rabinowitz, Morcos and Zoran (2018): before
against after, trained against untrained, in units of how far apart different images are.
"""

import itertools
import math
from collections.abc import Sequence
from statistics import fmean

import torch
from torch import Tensor, nn

from poolbench.accelerator import doubled
from poolbench.measure.invariance import folded, translated
from poolbench.measure.subject import Subject, first, noted, sites_of
from poolbench.records.probes import amount_text

_SHIFTS = 3  # random shifts of each image; any two of them are compared
_SITE_IMAGES = 512  # that the maps at the sites are read of


def read_consistency(subject: Subject, amounts: Sequence[float]) -> dict[str, float]:
    """How often two random shifts of an image are given the same class, right or wrong.

    Both shifts are uniform in rows and columns, from ``-amount`` to ``amount`` pixels: whole pixels for a whole amount,
    else halves (bilinear). Each image has three shifts of its own, and all three pairs count.

    Returns: ``consistency_<amount>`` with a reflected border, ``circular_consistency_<amount>`` where pixels that leave
        on one side come in on the other, and the means over amounts without the amount. All are fractions.
    """
    found: dict[str, float] = {}
    for word, border in (("consistency", "reflect"), ("circular_consistency", "wrap")):
        shares = []
        for amount in amounts:
            draw = subject.generator(word, amount_text(amount))
            classes = [
                subject.logits(lambda x, draw=draw, amount=amount, border=border: _shifted(x, amount, border, draw))[0]
                for _ in range(_SHIFTS)
            ]
            chosen = [logits.argmax(1) for logits in classes]
            pairs = [(a == b).double().mean().item() for a, b in itertools.combinations(chosen, 2)]
            shares.append(fmean(pairs))
            found[f"{word}_{amount_text(amount)}"] = shares[-1]
        if shares:
            found[word] = fmean(shares)
    return found


def read_site_shifts(subject: Subject, amounts: Sequence[float]) -> dict[str, float]:
    """What a circular shift of the images to the right changes before each pool and after it.

    Of at most 512 images. With d the mean squared difference of a map to that of the image left alone, in units of the
    mean squared difference of the maps of two different images (0: the shift changes nothing, 1: as much as another
    image), for site k, counted from 1:

    Returns: ``site_<k>_moved_before_<amount>`` and ``_moved_after_``, d of the pool's input and output;
        ``site_<k>_removed_<amount>``, the share of d that the pool removes (below 0 where it adds); and
        ``site_<k>_equivariance_error_<amount>``, d between the shifted image's output and the output shifted along, by
        as much of its own grid (0: equivariant). The same as ``untrained_site_<k>_...`` where the net is known as
        it was before its training.
    """
    found = _of_sites(subject, subject.model, amounts, "site")
    if subject.untrained is not None and found:
        found |= _of_sites(subject, subject.untrained(), amounts, "untrained_site")
    return found


def _shifted(x: Tensor, amount: float, border: str, draw: torch.Generator) -> Tensor:
    """Images ``(N, C, H, W)``, each moved by a random number of rows and columns."""
    step = 1.0 if amount == int(amount) else 0.5
    most = round(amount / step)
    shifts = torch.randint(-most, most + 1, (len(x), 2), generator=draw).double() * step
    return moved(x, shifts.to(x.device), border)


def moved(x: Tensor, shifts: Tensor, border: str = "reflect") -> Tensor:
    """Images ``(N, C, H, W)``, each moved down and to the right by its own ``shifts`` ``(N, 2)``, in pixels.

    Fractions of pixels are bilinear; whole pixels move without any rounding.
    """
    y = x
    for axis in (2, 3):
        side = x.shape[axis]
        sources = torch.arange(side, device=x.device) - shifts[:, axis - 2, None]  # (N, side)
        first = sources.floor()
        weight = (sources - first).to(x.dtype)
        shape = (len(x), 1, side, 1) if axis == 2 else (len(x), 1, 1, side)
        parts = []
        for cells in (first.long(), first.long() + 1):
            inside, place = folded(cells, side, border)
            index = place.view(shape).expand_as(y)
            parts.append(y.gather(axis, index) * inside.to(x.dtype).view(shape))
        weight = weight.view(shape)
        # Where nothing is mixed in, what lies beside may be anything.
        y = torch.where(weight == 0, parts[0], parts[0] * (1 - weight) + parts[1] * weight)
    return y


@torch.no_grad()
def _of_sites(subject: Subject, model: nn.Module, amounts: Sequence[float], word: str) -> dict[str, float]:
    sites = sites_of(model)
    sums = torch.zeros(len(amounts), len(sites), 3, dtype=torch.float64)
    apart = torch.zeros(len(sites), 2, dtype=torch.float64)  # of different images, before and after
    was_training = model.training
    model.eval()
    try:
        for x, _ in first(subject.batches(), _SITE_IMAGES):
            plain = _maps(model, sites, x)
            for place, maps in enumerate(plain):
                for side, one in enumerate(maps):
                    apart[place, side] += _squares(one, one.roll(1, 0))
            for number, amount in enumerate(amounts):
                shifted = _maps(model, sites, translated(x, right=amount, border="wrap"))
                for place, (before, after) in enumerate(zip(plain, shifted, strict=True)):
                    along = along_with(before[1], amount * before[1].shape[3] / x.shape[3])
                    values = (
                        _squares(after[0], before[0]),
                        _squares(after[1], before[1]),
                        _squares(after[1], along),
                    )
                    sums[number, place] += torch.tensor(values, dtype=torch.float64)
    finally:
        model.train(was_training)
    found = {}
    for place in range(len(sites)):
        between = apart[place].tolist()
        for number, amount in enumerate(amounts):
            if min(between) == 0:  # all images alike there: nothing to measure by
                continue
            before, after, error = sums[number, place].tolist()
            moved_before, moved_after = before / between[0], after / between[1]
            numbers = {
                "moved_before": moved_before,
                "moved_after": moved_after,
                "removed": 1 - moved_after / moved_before if moved_before else math.nan,
                "equivariance_error": error / between[1],
            }
            for name, value in numbers.items():
                if math.isfinite(value):
                    found[f"{word}_{place + 1}_{name}_{amount_text(amount)}"] = value
    return found


def along_with(maps: Tensor, places: float) -> Tensor:
    """Maps ``(N, C, H, W)`` moved to the right by ``places`` of their own grid, as their Fourier series goes on between
    its points; circular."""
    width = maps.shape[3]
    exact = doubled(maps)
    turns = torch.fft.rfftfreq(width, device=exact.device, dtype=torch.float64)
    phase = torch.exp(-2j * math.pi * turns * places)
    if width % 2 == 0:  # of the highest frequency there is only the cosine
        phase[-1] = phase[-1].real.clone()
    spectrum = torch.fft.rfft(exact, dim=3) * phase
    return torch.fft.irfft(spectrum, n=width, dim=3).to(maps)


def _maps(model: nn.Module, sites: list[nn.Module], x: Tensor) -> list[tuple[Tensor, Tensor]]:
    """Input and output of each site."""
    with noted(sites) as seen:
        model(x)
    return [(before.float(), after.float()) for before, after in seen]


def _squares(a: Tensor, b: Tensor) -> float:
    return float((a - b).double().square().sum())
