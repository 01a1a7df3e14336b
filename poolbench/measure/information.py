"""What each pool of a trained net keeps of the map that reaches it, and what it folds or throws away."""

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from poolbench import accelerator
from poolbench.measure.subject import Subject, noted, sites_of

ROWS, OTHER_ROWS = 20_000, 5_000  # places that fit the decoder; that choose its ridge, and that are held out
MOST_INPUTS = 2_500  # values a decoder may read: as many squared numbers are kept, and solved for
MOST_TARGETS = 2_048  # and those it may rebuild
RIDGES = (1e-6, 1e-4, 1e-2, 1.0)  # relative to the variance of what the decoder reads
MOST_IMAGES, MOST_CHANNELS = 64, 64  # for what takes several passes through a pool
MOST_DECIBELS = 100.0  # of equal pictures, whose ratio would be infinite
_VALUES = 2**20  # of a map that are worked on at once, so that memory stays bounded
_PARTS = (0, 0, 1, 2)  # of each four images two fit, one chooses, one is held out
_CHUNK = 2_048  # rows, likewise
_NOTHING = 1e-12  # variance relative to the mean square below which a map counts as constant: rounding of fp32


@torch.no_grad()
def read_information(subject: Subject) -> dict[str, float]:
    r"""Read what every site keeps, k = 1, 2, ... in the order of :func:`~poolbench.measure.subject.sites_of`.

    With u ``(N, C, H, W)`` the map that reaches the pool and v ``(N, C', H', W')`` what it gives:

    - ``site_<k>_explained_variance``, 0 to 1: :math:`1 - \sum |u - \hat u|^2 / \sum |u - \bar u|^2` on held-out images,
      with :math:`\hat u` the best linear rebuilding from v and :math:`\bar u` each channel's mean where it was fitted.
      Worse than the mean counts as 0. One linear map with a bias serves all places: it reads v at a place and its 8
      neighbours (the edge is repeated), and rebuilds the patch of u below the place, as wide as the pool's step; where
      9 C' is above 2,500 it reads the place alone. Of patches of more than 2,048 values it rebuilds every second
      (third, ...) channel. Where the step is no whole number, patches are as wide as the next larger one and lie as
      near to the middle of their place as whole pixels allow. Of each four images two fit it, one chooses its ridge
      from ``RIDGES``, one is held out: about 20,000, 5,000 and 5,000 places, drawn.
    - ``site_<k>_psnr``, in dB, and ``site_<k>_ssim``, -1 to 1: v enlarged to u's size (bilinear) against u, each
      channel of each image as a grey picture from 0 (its least value in u) to 1 (its largest); the mean over all that
      are not constant. Rows and columns of u that make no whole step are left out. A PSNR above 100 counts as 100. Left
      out where C' is not C; of a pool that mixes channels as convolutions do the numbers are low whatever it keeps.
    - ``site_<k>_aliased``, 0 to 1: the share of v's energy, the mean of each map removed, that was folded from above
      the Nyquist frequency of v's grid. The pool is taken as an operator at full rate of which every s-th place is
      kept. Its values at full rate, w ``(N, C', H' s, W' s)``, are those of the pool on u shifted around by each of the
      s x s phases, interleaved: exact for pools that go around the border, near to it for others. The number is w's
      energy at frequencies above 1 / (2 s) per pixel in either axis, through that of all but the zeroth; 0 for a pool
      that does not shrink. u is cropped to whole steps. Left out where s is no whole number. For a pool that chooses
      its grid by the image (polyphase, lps, tips) w is no output at full rate, and the number says little.
    - ``site_<k>_gradient_share``, 0 to 1: the share of u's values to which a normal draw of the gradient at v gives one
      that is not 0, through the pool alone. 1/4 for 2x2 maxima, 1 for averages, where nothing of u is cropped.

    The last two are of the first 64 images, aliasing of the first 64 channels of v. What does not exist is left out:
    explained variance and pictures of a constant u, or the former of fewer than three images; aliasing of a constant w;
    all of a site that no map reached; what is not finite. One pass through the net, in fp32 whatever
    ``subject.precision``. A pool that draws in evaluation draws the same in every call. Model, gradients of parameters
    and torch's generators stay as they were.

    Returns: the numbers; ``{}`` for a net without sites.
    Source: SSIM: Wang, Bovik, Sheikh and Simoncelli, IEEE Transactions on Image Processing 2004. Aliasing as the energy
        that does not fit the smaller grid: after Zhang, ICML 2019 (arXiv:1904.11486). The decoder is ours.
    """
    pools = sites_of(subject.model)
    if not pools:
        return {}
    images = sum(len(labels) for _, labels in subject.batches())  # to split them without keeping any
    sites = [_Site(pool, subject, str(number), images) for number, pool in enumerate(pools, start=1)]
    with _as_it_was(subject):
        for x, _ in subject.batches():
            with noted(pools) as seen:
                subject.model(x)
            for site, (u, _) in zip(sites, seen, strict=True):
                if u.dim() == 4:  # else no map reached it
                    site.add(u.detach())
        found = {f"site_{site.number}_{name}": value for site in sites for name, value in site.numbers().items()}
    return {name: value for name, value in found.items() if value is not None and math.isfinite(value)}


@contextmanager
def _as_it_was(subject: Subject) -> Iterator[None]:
    """Evaluation mode, and torch's generators forked and seeded, while it lasts."""
    modes = [(module, module.training) for module in subject.model.modules()]
    subject.model.eval()
    try:
        with accelerator.undrawn(subject.device):
            torch.manual_seed(subject.generator("information").initial_seed())
            yield
    finally:
        for module, training in modes:
            module.training = training


class _Site:
    """What is gathered of one pool, batch by batch."""

    def __init__(self, pool: nn.Module, subject: Subject, number: str, images: int):
        self.pool, self.number, self.seen = pool, number, 0
        self.seed = subject.generator("information").initial_seed()
        self.decoder = _Decoder(images, subject.generator("information", "places", number))
        self.pictures, self.folding = _Pictures(), _Folding()
        self.reached = _Reached(subject.generator("information", "gradient", number))

    def __call__(self, u: Tensor) -> Tensor:
        """The pool, with the same draws whenever it draws: else its noise would count as what it does to u."""
        torch.manual_seed(self.seed)
        return self.pool(u)

    def add(self, u: Tensor) -> None:
        # Not the output that was noted: an activation that works in place may have changed it by now.
        v = self(u)
        self.decoder.add(u.float(), v.float(), self.seen)
        if u.shape[1] == v.shape[1]:
            for some in _chunks(len(u), u[0].numel()):
                self.pictures.add(u[some].float(), v[some].float())
        for some in _chunks(min(len(u), MOST_IMAGES - self.seen), u[0].numel()):
            self.folding.add(self, u[some], v[some])
            self.reached.add(self, u[some])
        self.seen += len(u)

    def numbers(self) -> dict[str, float | None]:
        return {
            "explained_variance": self.decoder.explained(),
            **self.pictures.means(),
            "aliased": self.folding.share(),
            "gradient_share": self.reached.share(),
        }


def _chunks(images: int, values: int) -> list[slice]:
    """Images ``0 ... images - 1`` of ``values`` each, in pieces that memory is made for; none where there are none."""
    size = max(1, _VALUES // values)
    return [slice(first, min(first + size, images)) for first in range(0, images, size)]


class _Decoder:
    """The linear map from a neighbourhood of v to a patch of u, and what it rebuilds of images it was not fitted on."""

    def __init__(self, images: int, draws: torch.Generator):
        # By fours, since images may come sorted by class.
        self.part_of = torch.tensor(_PARTS)[torch.arange(images) % len(_PARTS)] if images > 3 else torch.arange(images)
        self.sizes = self.part_of.bincount(minlength=3).tolist()
        self.moments = [_Moments() for _ in self.sizes]
        self.draws, self.channels = draws, 0

    def add(self, u: Tensor, v: Tensor, start: int) -> None:
        """Images ``(n, C, H, W)`` and their pooled maps, the first of which is number ``start``."""
        here = self.part_of[start : start + len(u)].to(u.device)
        for part, (moments, rows) in enumerate(zip(self.moments, (ROWS, OTHER_ROWS, OTHER_ROWS), strict=True)):
            some = here == part
            if some.any():
                self._add(u[some], v[some], moments, rows / self.sizes[part])

    def _add(self, u: Tensor, v: Tensor, moments: "_Moments", each: float) -> None:
        """Of about ``each`` places an image; fewer where it has no more."""
        (tops, height), (lefts, width) = (_patches(*sides) for sides in zip(u.shape[2:], v.shape[2:], strict=True))
        side = 3 if 9 * v.shape[1] <= MOST_INPUTS else 1
        around = F.pad(v, (1, 1, 1, 1), mode="replicate") if side == 3 else v
        u = u[:, :: math.ceil(u.shape[1] * height * width / MOST_TARGETS)]
        self.channels = u.shape[1]
        places = len(tops) * len(lefts)
        # Rounded up: a part of many small batches would get no place at all.
        drawn = math.ceil(len(u) * min(places, each))
        order = torch.randperm(len(u) * places, generator=self.draws)[:drawn]
        for some in order.split(_CHUNK):
            image, row, column = some // places, some % places // len(lefts), some % len(lefts)
            x = _gathered(around, image, row, column, (side, side))
            moments.add(x, _gathered(u, image, tops[row], lefts[column], (height, width)))

    def explained(self) -> float | None:
        """The share of u's variance on the last part; None where there is no such part, or nothing to explain."""
        fit, choose, held_out = self.moments
        if not (fit.count and choose.count and held_out.count):
            return None
        # The mean of a channel, not of each place in a patch: where in a patch a value lies is the decoder's to know.
        mean_x, mean_y = fit.means()
        mean = mean_y.view(-1, self.channels).mean(0).repeat(len(mean_y) // self.channels)
        total = held_out.residual(mean)
        if not total > _NOTHING * held_out.y_square.sum():
            return None
        decoders = [fit.decoder(ridge) for ridge in RIDGES]
        errors = [choose.residual(mean_y, mean_x, decoder) for decoder in decoders]
        best = decoders[int(torch.stack(errors).nan_to_num(math.inf).argmin())]
        return float((1 - held_out.residual(mean_y, mean_x, best) / total).clamp(0, 1))


def _patches(side: int, pooled: int) -> tuple[Tensor, int]:
    """Where patches of u below the places of v begin along one axis, ``(P,)``, and how wide they are: of ``side``
    pixels of u and ``pooled`` of v. The last place is left out where its patch would pass the border (15 to 8)."""
    step = whole_step(side, pooled)
    if step:
        return torch.arange(min(pooled, side // step)) * step, step
    ratio = side / pooled
    width = math.ceil(ratio)
    starts = ((torch.arange(pooled, dtype=torch.float64) + 0.5) * ratio - width / 2).round()
    return starts.long(), width


def whole_step(side: int, pooled: int) -> int:
    """The step of a pool that gives ``pooled`` pixels of ``side``; 0 where it is no whole number, as 22 of 32."""
    step = round(side / pooled)
    left = side - step * pooled  # a step where windows stop short of the border (15 of 32), below 0 where they pass it
    return step if (left == 0 if step < 2 else -step < left <= step) else 0


def steps_of(u: Tensor, v: Tensor) -> tuple[int, int]:
    """:func:`whole_step` down and to the right."""
    return whole_step(u.shape[2], v.shape[2]), whole_step(u.shape[3], v.shape[3])


def _gathered(x: Tensor, image: Tensor, top: Tensor, left: Tensor, size: tuple[int, int]) -> Tensor:
    """``(R, h * w * C)``: the patches of maps ``(n, C, H, W)`` that begin at ``top`` and ``left``, each ``(R,)``."""
    image, top, left = (index.to(x.device)[:, None, None] for index in (image, top, left))
    rows = top + torch.arange(size[0], device=x.device)[:, None]
    columns = left + torch.arange(size[1], device=x.device)
    return x[image, :, rows, columns].flatten(1)


class _Moments:
    """Sums over rows x ``(R, D)`` and y ``(R, T)``, in float64: all that least squares and its errors ask for."""

    def __init__(self) -> None:
        self.count = 0
        self.x = self.y = self.xx = self.xy = self.y_square = torch.zeros(())

    def add(self, x: Tensor, y: Tensor) -> None:
        x, y = x.double(), y.double()
        self.count += len(x)
        self.x, self.y = self.x.to(x) + x.sum(0), self.y.to(x) + y.sum(0)
        self.xx, self.xy = self.xx.to(x) + x.T @ x, self.xy.to(x) + x.T @ y
        self.y_square = self.y_square.to(x) + y.square().sum(0)

    def means(self) -> tuple[Tensor, Tensor]:
        return self.x / self.count, self.y / self.count

    def decoder(self, ridge: float) -> Tensor:
        """``(D, T)``: the weights that rebuild y of x, both about their means, at ``ridge`` relative to x's variances.

        NaN where the rows are not finite. What does not vary gets no weight.
        """
        mean_x, mean_y = self.means()
        covariance = self.xx / self.count - torch.outer(mean_x, mean_x)
        variance = covariance.diagonal()
        varies = variance > _NOTHING * self.xx.diagonal() / self.count
        scale = torch.where(varies, variance.clamp_min(0).rsqrt(), 0.0)
        matrix = covariance * torch.outer(scale, scale)
        matrix.diagonal().add_(ridge)
        factor, failed = torch.linalg.cholesky_ex(matrix)
        right = (self.xy / self.count - torch.outer(mean_x, mean_y)) * scale[:, None]
        weights = torch.cholesky_solve(right, factor) * scale[:, None]
        return torch.where(failed == 0, weights, math.nan)

    def residual(self, mean_y: Tensor, mean_x: Tensor | None = None, decoder: Tensor | None = None) -> Tensor:
        """Sum of squares of what is left of these rows' y when ``mean_y``, and what ``decoder`` adds, is subtracted."""
        left = self.y_square.sum() - 2 * mean_y @ self.y + self.count * mean_y @ mean_y
        if mean_x is None or decoder is None:
            return left
        x = self.x - self.count * mean_x  # summed about the mean
        xy = self.xy - torch.outer(mean_x, self.y) - torch.outer(x, mean_y)
        xx = self.xx - torch.outer(mean_x, self.x) - torch.outer(x, mean_x)
        return left - 2 * (decoder * xy).sum() + (decoder * (xx @ decoder)).sum()


class _Pictures:
    """Means of PSNR and SSIM over the channels of images."""

    def __init__(self) -> None:
        self.count, self.psnr, self.ssim = 0, 0.0, 0.0

    def add(self, u: Tensor, v: Tensor) -> None:
        # Pixel below pixel: 3 of 7 are those of the first 6. Stretched over all 7 they would lie beside their own.
        size = [step * n or side for step, n, side in zip(steps_of(u, v), v.shape[2:], u.shape[2:], strict=True)]
        enlarged = F.interpolate(v, size, mode="bilinear")[:, :, : u.shape[2], : u.shape[3]].flatten(0, 1)
        u = u[:, :, : size[0], : size[1]].flatten(0, 1)
        least, largest = u.amin((1, 2), keepdim=True), u.amax((1, 2), keepdim=True)
        there = (largest - least > math.sqrt(_NOTHING) * u.abs().amax((1, 2), keepdim=True)).view(-1)
        pictures = [(x[there] - least[there]) / (largest - least)[there] for x in (u, enlarged)]
        self.count += int(there.sum())
        self.psnr += float(psnr(*pictures).double().sum())
        self.ssim += float(ssim(*pictures).double().sum())

    def means(self) -> dict[str, float]:
        return {"psnr": self.psnr / self.count, "ssim": self.ssim / self.count} if self.count else {}


def psnr(x: Tensor, y: Tensor) -> Tensor:
    """Peak signal to noise ratio ``(N,)``, in dB, of pictures ``(N, H, W)`` with black 0 and white 1; at most 100."""
    error = (x - y).square().mean((1, 2))
    return -10 * error.clamp_min(10 ** (-MOST_DECIBELS / 10)).log10()


def ssim(x: Tensor, y: Tensor) -> Tensor:
    """Structural similarity ``(N,)`` of pictures ``(N, H, W)`` with black 0 and white 1, at most 1.

    The mean over the places where an 11x11 Gaussian window of sigma 1.5 lies inside the picture; in smaller ones the
    window is the largest odd one. Constants 0.01 and 0.03.
    Source: Wang, Bovik, Sheikh and Simoncelli, IEEE Transactions on Image Processing 2004.
    """
    height, width = x.shape[1:]
    window = min(11, *(side - 1 + side % 2 for side in (height, width)))
    rows, columns = (_windows(side, window).to(x) for side in (height, width))
    # As products of matrices: on CPUs a convolution of single channels takes many times as long.
    stacked = torch.stack([x, y, x * x, y * y, x * y]) @ columns.T
    mean_x, mean_y, xx, yy, xy = (stacked.transpose(-1, -2) @ rows.T).unbind()
    light = (2 * mean_x * mean_y + 0.01**2) / (mean_x**2 + mean_y**2 + 0.01**2)
    variances = xx - mean_x**2 + yy - mean_y**2
    return (light * (2 * (xy - mean_x * mean_y) + 0.03**2) / (variances + 0.03**2)).mean((1, 2))


def _windows(side: int, window: int) -> Tensor:
    """``(side - window + 1, side)``: the weights of the pixels of a line in each Gaussian window inside it."""
    first = torch.arange(side - window + 1)[:, None]
    offset = torch.arange(side) - first
    weights = torch.exp(-((offset - window // 2) ** 2) / (2 * 1.5**2)) * ((offset >= 0) & (offset < window))
    return weights / weights.sum(1, keepdim=True)


class _Folding:
    """Energy of pools at full rate, and how much of it the smaller grid cannot hold."""

    def __init__(self) -> None:
        self.above, self.all, self.keeps_size = 0.0, 0.0, False

    def add(self, pool: Callable[[Tensor], Tensor], u: Tensor, v: Tensor) -> None:
        if v.shape[2:] == u.shape[2:]:
            self.keeps_size = True
            return
        steps = steps_of(u, v)
        full = full_rate(pool, u, steps) if all(steps) else None
        if full is not None:
            above, every = folded(full[:, :MOST_CHANNELS], steps)
            self.above, self.all = self.above + above, self.all + every

    def share(self) -> float | None:
        return self.above / self.all if self.all else 0.0 if self.keeps_size else None


def full_rate(pool: Callable[[Tensor], Tensor], u: Tensor, steps: tuple[int, int]) -> Tensor | None:
    """What ``pool`` would give of maps ``(n, C, H, W)`` at step 1, going around the border; None where it cannot say.

    Shape: ``(n, C', H' s, W' s)``, of maps cropped to whole ``steps`` s.
    """
    height, width = (side // step * step for side, step in zip(u.shape[2:], steps, strict=True))
    cropped = u[:, :, :height, :width]
    full = None
    for down in range(steps[0]):
        for right in range(steps[1]):
            try:
                y = pool(cropped.roll((-down, -right), (2, 3)))
            except (ValueError, RuntimeError):
                if cropped.shape == u.shape:
                    raise
                return None  # it takes maps of one size, and this is another
            if steps_of(cropped, y) != steps:
                return None
            if full is None:
                full = y.new_empty(*y.shape[:2], y.shape[2] * steps[0], y.shape[3] * steps[1])
            full[:, :, down :: steps[0], right :: steps[1]] = y
    return full


def folded(full: Tensor, steps: tuple[int, int]) -> tuple[float, float]:
    """Energy of maps ``(n, C, H, W)`` that every ``steps``-th pixel cannot hold, and all but that of their means."""
    # In float64: beside a large mean the rounding of fp32 would count as high frequencies.
    energy = torch.fft.fft2(accelerator.doubled(full)).abs().square()
    high = [
        (2 * step * torch.fft.fftfreq(side, 1 / side, device=energy.device)).round().abs() > side
        for side, step in zip(full.shape[2:], steps, strict=True)
    ]
    above = high[0][:, None] | high[1]
    mean = energy[..., 0, 0].sum()
    energy[..., 0, 0] = 0
    every = float(energy.sum())
    if every <= _NOTHING * float(mean):
        return 0.0, 0.0
    return float((energy * above).sum()), every


class _Reached:
    """How many values of the maps get a gradient."""

    def __init__(self, draws: torch.Generator):
        self.draws, self.reached, self.all = draws, 0, 0

    def add(self, pool: Callable[[Tensor], Tensor], u: Tensor) -> None:
        with torch.enable_grad():
            u = u.detach().requires_grad_()
            v = pool(u)
            self.all += u.numel()
            if not v.requires_grad:  # whatever it gives does not depend on u
                return
            above = torch.randn(v.shape, generator=self.draws).to(v)
            (gradient,) = torch.autograd.grad(v, u, above, allow_unused=True)
        self.reached += 0 if gradient is None else int((gradient != 0).sum())

    def share(self) -> float | None:
        return self.reached / self.all if self.all else None
