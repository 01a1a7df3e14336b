"""Multi-scale orderless pooling: windows of several sizes, each size told by its residuals to a codebook (MOP-CNN)."""

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from poolbench.accelerator import doubled, full_precision
from poolbench.checks import Rule, is_number, number, one_of, whole
from poolbench.heads.base import Head, plus, wide
from poolbench.heads.vlad import residuals, unit

_CHUNK = 256  # images that are encoded at once: what lies between map and vector stays small
_PCA_IMAGES = 1000  # whose windows the descriptors' components come from, as in the paper
_NEAREST = 5  # centres that a descriptor is shared among
_KMEANS_STEPS = 30
_LBFGS_STEPS = 500

Maps = Callable[[], Iterable[tuple[Tensor, Tensor]]]  # see Head.fit


def _is_share(value: Any) -> bool:
    return is_number(value) and 0 < value <= 1


def _are_scales(value: Any) -> bool:
    several = isinstance(value, Sequence) and not isinstance(value, str) and all(map(_is_share, value))
    return several and list(value[:1]) == [1]


_SCALES = Rule(_are_scales, "a list of shares above 0, the first 1")
_STRIDE = Rule(_is_share, "a share of the map's side, above 0 and up to 1")


class Mop(Head):
    r"""The whole map and windows of it at smaller scales: VLAD over the windows of a scale, all scales side by side.

    The descriptor of a window is the average of the map over it. (The paper sends each window of the image through the
    net again; on a last map their averages are what comes for free.) The whole map's is brought to length 1 and taken
    as it is. Those of a smaller scale are reduced by principal components, assigned to a codebook from k-means, and
    their residuals summed centre by centre,

    .. math:: V_k = \sum_i a_{ik} (x_i - c_k), \qquad V \leftarrow \frac{V}{\sqrt{|V|}}, \quad
        V \leftarrow \frac{V}{\lVert V \rVert}

    which takes the sign and the root of each number; then principal components again, and length 1. ``"hard"`` gives a
    descriptor to its nearest centre, ``"soft"`` shares it among the 5 nearest by :math:`e^{-d / \text{softness}}`,
    ``d`` its squared distance (the authors' code leaves a factor of 2 out of ``d``). A linear classifier reads all
    scales: here multinomial logistic regression, there a support vector machine.

    None of this is trained with the trunk: :meth:`fit` makes it once the trunk is trained. Until then this is a global
    average with a linear classifier, which trains the trunk. Fewer samples than components leave the last ones 0.

    Sides of windows and steps are shares of the map's side, rounded to cells, at least one; the last window of a row
    ends with the map. Small maps give equal windows at several scales, never none.

    Args:
        channels, num_classes, size: see :class:`~poolbench.heads.base.Head`.
        scales: side of the windows of each scale, as shares of the map's; the first is 1, the whole map.
        stride: step of the windows, as a share of the map's side.
        descriptor_dimension: components of a window's descriptor that are kept, at most ``channels``.
        centres: size of each codebook.
        assignment: ``"soft"`` as in the authors' code, or ``"hard"``.
        softness: of ``"soft"``, in squared units of the map; the authors' code has 10, for activations of its net.
        dimension: components of a scale's vector that are kept.
        penalty: weight of half the squared norm of the classifier's weights, against the mean cross-entropy.
        fit_samples: images, drawn at random, from which components and codebooks come; the classifier takes all.
    Use: to add what is in the parts of an image to what a trained net says of the whole, without training it again.
    Shape: ``(N, C, H, W) -> (N, K)``, any ``H``, ``W`` >= 1.
    Raises: ValueError naming the option for a value that is not allowed, and from ``fit`` when the windows of the
        images are fewer than the centres, or too much alike for them.
    Source: Gong, Wang, Guo and Lazebnik, ECCV 2014.
    """

    variants = ({"scales": (1, 0.4), "stride": 0.3, "centres": 5, "assignment": "hard", "dimension": 8},)

    fitted: Tensor
    weight: Tensor
    bias: Tensor

    def __init__(
        self,
        channels: int,
        num_classes: int,
        size: tuple[int, int] | None = None,
        scales: Sequence[float] = (1.0, 0.5, 0.25),
        stride: float = 0.125,
        descriptor_dimension: int = 64,
        centres: int = 32,
        assignment: str = "soft",
        softness: float = 10.0,
        dimension: int = 256,
        penalty: float = 1e-5,
        fit_samples: int = 5000,
    ):
        super().__init__(channels, num_classes, size, hidden=(), features=channels)
        self.checked("scales", scales, _SCALES)
        self.checked("stride", stride, _STRIDE)
        self.checked("descriptor_dimension", descriptor_dimension, whole(1))
        self.checked("centres", centres, whole(1))
        self.checked("assignment", assignment, one_of("soft", "hard"))
        self.checked("softness", softness, number(least=0, open=True))
        self.checked("dimension", dimension, whole(1))
        self.penalty = float(self.checked("penalty", penalty, number(least=0)))
        self.fit_samples = self.checked("fit_samples", fit_samples, whole(1))
        self.scales = nn.ModuleList(
            Scale(channels, scale, stride, descriptor_dimension, centres, assignment, softness, dimension)
            for scale in scales[1:]
        )
        self.features = channels + sum(scale.features for scale in self.scales)
        # Buffers, of their full size from the start: no optimiser touches them, and a saved head finds them in place.
        self.register_buffer("fitted", torch.tensor(False))
        self.register_buffer("weight", torch.zeros(num_classes, self.features))
        self.register_buffer("bias", torch.zeros(num_classes))
        self._is_fitted = False  # the buffer's value where a graph is traced, and without waiting for an accelerator

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """Forget the fit."""
        for buffer in self.buffers():
            buffer.zero_()
        self._is_fitted = False

    def pool(self, x: Tensor) -> Tensor:
        """The average until it is fitted, the whole vector from then on."""
        if not self._is_fitted:
            return x.mean((2, 3))
        with full_precision(x):
            return self._encoded(wide(x))

    def logits(self, x: Tensor) -> Tensor:
        if not self._is_fitted:
            return super().logits(x)
        with full_precision(x):
            vector = self.pool(x)
            return F.linear(vector, self.weight.to(vector), self.bias.to(vector)).to(self.weight.dtype)

    @torch.no_grad()
    def fit(self, maps: Maps, generator: torch.Generator) -> None:
        """Learn components and codebooks from some images, then encode all and learn the classifier; see ``Head``."""
        with full_precision(self.weight):
            sample = _sample(self._sound(maps()), self.fit_samples, generator)
            for scale in self.scales:
                try:
                    scale.fit(sample, generator)
                except ValueError as error:
                    raise ValueError(f"{self._name()}: {error}") from error
            del sample
            encoded, labels = [], []
            for x, y in self._sound(maps()):
                encoded += [self._encoded(wide(part)) for part in x.split(_CHUNK)]
                labels.append(y)
            weight, bias = logistic_regression(torch.cat(encoded), torch.cat(labels), self.num_classes, self.penalty)
            self.weight.copy_(weight)
            self.bias.copy_(bias)
            self.fitted.fill_(True)
            self._is_fitted = True

    def flops(self, size: tuple[int, int]) -> int:
        average = self.channels * size[0] * size[1]
        if not self._is_fitted:
            return average
        return average + 3 * self.channels + sum(scale.flops(size) for scale in self.scales)

    def extra_repr(self) -> str:
        return f"fitted={self._is_fitted}"

    def _encoded(self, x: Tensor) -> Tensor:
        """``(N, C, H, W) -> (N, features)``."""
        return torch.cat([unit(x.mean((2, 3))), *(scale(x) for scale in self.scales)], 1)

    def _sound(self, batches: Iterable[tuple[Tensor, Tensor]]) -> Iterator[tuple[Tensor, Tensor]]:
        for x, y in batches:
            self._check_map(x)
            yield x, y

    def _load_from_state_dict(self, state_dict: dict, prefix: str, *args: object) -> None:
        super()._load_from_state_dict(state_dict, prefix, *args)
        if f"{prefix}fitted" in state_dict:
            self._is_fitted = bool(state_dict[f"{prefix}fitted"])


class Scale(nn.Module):
    """The windows of one scale: from maps ``(N, C, H, W)`` to vectors ``(N, features)`` of length 1."""

    centres: Tensor

    def __init__(
        self,
        channels: int,
        scale: float,
        stride: float,
        descriptor_dimension: int,
        centres: int,
        assignment: str,
        softness: float,
        dimension: int,
    ):
        super().__init__()
        self.scale, self.stride, self.assignment, self.softness = scale, stride, assignment, softness
        reduced = min(descriptor_dimension, channels)
        self.features = min(dimension, centres * reduced)
        self.of_descriptors = Components(channels, reduced)
        self.register_buffer("centres", torch.zeros(centres, reduced))
        self.of_vectors = Components(centres * reduced, self.features)

    def forward(self, x: Tensor) -> Tensor:
        return unit(self.of_vectors(self.aggregated(self.of_descriptors(self.windows(x)))))

    def windows(self, x: Tensor) -> Tensor:
        """Descriptors ``(N, P, C)`` of the windows of maps ``(N, C, H, W)``."""
        # Of one size where a graph is made for several: how many windows there are has no formula in it.
        (height, rows), (width, columns) = (self._layout(int(length)) for length in x.shape[-2:])
        # Sums along one axis, then along the other, of all windows at once, by matrices of zeros and ones.
        down, across = _membership(x.shape[-2], height, rows, x), _membership(x.shape[-1], width, columns, x)
        sums = torch.einsum("nchw,ih,jw->nijc", x, down, across)
        return sums.flatten(1, 2) / (height * width)

    def aggregated(self, descriptors: Tensor) -> Tensor:
        """Residuals of descriptors ``(N, P, D)`` to the centres, ``(N, M * D)``, their signed root, of length 1."""
        centres = self.centres.to(descriptors)
        shares = assigned(descriptors, centres, self.assignment, self.softness)
        vector = residuals(shares.transpose(1, 2), descriptors, centres).flatten(1)
        return unit(vector / plus(vector.abs(), 1e-12).sqrt())  # the slope of a plain root at 0 is infinite

    def fit(self, sample: Tensor, generator: torch.Generator) -> None:
        """Learn components and codebook from maps ``(N, C, H, W)``. Raises: ValueError for too few windows."""
        some = sample[:: math.ceil(len(sample) / _PCA_IMAGES)]
        self.of_descriptors.fit(self.windows(some).flatten(0, 1))
        reduced = torch.cat([self.of_descriptors(self.windows(part)) for part in sample.split(_CHUNK)])
        self.centres.copy_(kmeans(reduced.flatten(0, 1), len(self.centres), generator))
        self.of_vectors.fit(torch.cat([self.aggregated(part) for part in reduced.split(_CHUNK)]))

    def flops(self, size: tuple[int, int]) -> int:
        """Floating point operations for one image, without the matrix products, which are counted where they happen."""
        windows = math.prod(len(self._layout(length)[1]) for length in size)
        centres, reduced = self.centres.shape
        averages = windows * len(self.of_descriptors.mean) * 2  # with the mean taken off
        assigning = windows * (3 * reduced + 2 * centres + (5 * _NEAREST if self.assignment == "soft" else 0))
        return averages + assigning + windows * centres + centres * reduced * 8 + 3 * self.features

    def extra_repr(self) -> str:
        return f"{self.scale}, centres={len(self.centres)}, assignment={self.assignment!r}"

    def _layout(self, length: int) -> tuple[int, list[int]]:
        """Side of the windows on a map of ``length`` cells, and where they start."""
        side, step = (max(1, math.floor(share * length + 0.5)) for share in (self.scale, self.stride))
        last = length - side
        return side, sorted({*range(0, last, step), last})


class Components(nn.Module):
    """Principal components: the directions along which samples differ most, from their mean."""

    mean: Tensor
    directions: Tensor

    def __init__(self, features: int, kept: int):
        super().__init__()
        self.register_buffer("mean", torch.zeros(features))
        self.register_buffer("directions", torch.zeros(kept, features))

    def forward(self, x: Tensor) -> Tensor:
        """``(..., features) -> (..., kept)``."""
        return (x - self.mean.to(x)) @ self.directions.to(x).mT

    def fit(self, x: Tensor) -> None:
        """Learn from samples ``(M, features)``. Directions along which they hardly differ, or of which there are more
        than samples, are 0."""
        self.mean.copy_(x.mean(0))
        x = x - self.mean.to(x)
        # Of x'x or xx', whichever is smaller: they have the same eigenvalues.
        by_features = x.shape[1] <= x.shape[0]
        values, vectors = torch.linalg.eigh(doubled(x.T @ x if by_features else x @ x.T))
        values, vectors = values.flip(0)[: len(self.directions)], vectors.flip(1)[:, : len(self.directions)]
        good = values > 1e-6 * values[0].clamp(min=1e-12)
        directions = vectors[:, good].to(x)
        if not by_features:
            directions = x.T @ directions / values[good].sqrt().to(x)
        self.directions.zero_()
        self.directions[: directions.shape[1]] = directions.T


def assigned(x: Tensor, centres: Tensor, how: str, softness: float) -> Tensor:
    """Shares ``(..., P, M)`` of descriptors ``(..., P, D)`` in centres ``(M, D)``; those of a descriptor sum to 1."""
    distances = centres.square().sum(1) - 2 * x @ centres.T  # but for |x|^2, which is the same for all centres
    nearest = distances.topk(1 if how == "hard" else min(_NEAREST, len(centres)), largest=False)
    shares = (-nearest.values / softness).softmax(-1)
    return torch.zeros_like(distances).scatter(-1, nearest.indices, shares)


def kmeans(x: Tensor, count: int, generator: torch.Generator) -> Tensor:
    """``count`` centres of descriptors ``(P, D)``, started by k-means++ (Arthur and Vassilvitskii, SODA 2007).

    Raises: ValueError when there are fewer descriptors, or different ones, than centres.
    """
    if len(x) < count:
        raise ValueError(f"centres must be at most the {len(x)} windows of the images it is fitted to, got {count}")
    centres = x[torch.randint(len(x), (1,), generator=generator)]
    nearest = (x - centres).square().sum(1)
    for _ in range(count - 1):
        # The next one is drawn with a chance that grows with the squared distance to those chosen.
        sums = doubled(nearest).cumsum(0)
        if not sums[-1] > 0:
            raise ValueError(
                f"centres must be at most the {len(centres)} windows that differ, of the images it is fitted to, "
                f"got {count}"
            )
        drawn = torch.rand(1, dtype=torch.float64, generator=generator).to(sums.device) * sums[-1]
        # A draw that rounds up to the sum falls to the last that has a chance.
        chosen = x[torch.searchsorted(sums, drawn, right=True).clamp(max=int(nearest.nonzero()[-1]))]
        centres = torch.cat([centres, chosen])
        nearest = torch.minimum(nearest, (x - chosen).square().sum(1))
    return lloyd(x, centres)


def lloyd(x: Tensor, centres: Tensor) -> Tensor:
    """Move centres ``(M, D)`` to the mean of the descriptors ``(P, D)`` nearest to them, until none changes its centre.

    A centre that nothing is nearest to moves to the descriptor that is farthest from its own.
    """
    squares, before = x.square().sum(1), None
    for _ in range(_KMEANS_STEPS):
        nearest = torch.addmm(centres.square().sum(1), x, centres.T, alpha=-2).min(1)
        if before is not None and torch.equal(nearest.indices, before):
            break
        before = nearest.indices
        # By a matrix product and not index_add, which on a GPU adds in an order of its own.
        members = x.new_zeros(len(x), len(centres)).scatter_(1, before[:, None], 1.0)
        counts = members.sum(0)
        centres = members.T @ x / counts.clamp(min=1)[:, None]
        empty = (counts == 0).nonzero()[:, 0]
        centres[empty] = x[(nearest.values + squares).topk(len(empty)).indices]
    return centres


@torch.enable_grad()
def logistic_regression(x: Tensor, y: Tensor, classes: int, penalty: float) -> tuple[Tensor, Tensor]:
    """Weights ``(K, F)`` and biases ``(K,)`` that make small the mean cross-entropy of features ``(M, F)`` with labels
    ``(M,)`` and ``penalty`` times half the squared norm of the weights, by L-BFGS from 0."""
    weight = x.new_zeros(classes, x.shape[1]).requires_grad_()
    bias = x.new_zeros(classes).requires_grad_()
    optimizer = torch.optim.LBFGS(
        [weight, bias], max_iter=_LBFGS_STEPS, tolerance_grad=1e-6, history_size=20, line_search_fn="strong_wolfe"
    )

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = F.cross_entropy(F.linear(x, weight, bias), y) + penalty / 2 * weight.square().sum()
        loss.backward()
        return loss

    optimizer.step(closure)
    return weight.detach(), bias.detach()


def _sample(batches: Iterable[tuple[Tensor, Tensor]], count: int, generator: torch.Generator) -> Tensor:
    """``count`` of the maps, or all if there are fewer, any as likely as another: those with the largest of random
    numbers, in place of smaller ones as they come by."""
    kept, keys = None, torch.full((count,), -1.0)
    for x, _ in batches:
        if kept is None:
            kept = x.new_empty(count, *x.shape[1:], dtype=wide(x[:0]).dtype)
        new = torch.rand(len(x), generator=generator)
        best = torch.cat([keys, new]).topk(count).indices
        free = torch.ones(count, dtype=torch.bool)
        free[best[best < count]] = False
        chosen = best[best >= count] - count
        kept[free.to(x.device)] = x[chosen.to(x.device)].to(kept.dtype)
        keys[free] = new[chosen]
    return kept[(keys >= 0).to(kept.device)]


def _membership(length: int, side: int, starts: Sequence[int], like: Tensor) -> Tensor:
    """``(windows, length)``: 1 where a cell lies in a window."""
    offset = torch.arange(length, device=like.device) - torch.tensor(starts, device=like.device)[:, None]
    return ((offset >= 0) & (offset < side)).to(like.dtype)
