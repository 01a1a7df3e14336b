"""Capsules: vectors that vote for the classes and are routed to those that they agree with, in place of pooling."""

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, einsum, nn

from poolbench.accelerator import full_precision
from poolbench.checks import TRUTH, Rule, number, whole, wholes
from poolbench.heads.base import Head, wide

_PRESENT, _ABSENT, _WEIGHT_OF_ABSENT = 0.9, 0.1, 0.5  # margins of the loss, section 3
_DECODER = (512, 1024)  # widths of the hidden layers, figure 2


class Capsule(Head):
    r"""Capsules read off the map vote for class capsules; dynamic routing decides whose vote counts where.

    .. math:: \hat u_{j|i} = W_{ij} u_i, \quad c_i = \mathrm{softmax}(b_i), \quad
        v_j = \mathrm{squash}\Bigl(\sum_i c_{ij} \hat u_{j|i}\Bigr), \quad b_{ij} \mathrel{+}= \hat u_{j|i} \cdot v_j

    A convolution gives ``types`` primary capsules :math:`u_i` at every position. ``b`` starts at 0 and is renewed
    ``iterations - 1`` times; the gradient goes through all iterations. :math:`\mathrm{squash}(s) = |s| s / (1 + |s|^2)`
    keeps the direction and brings the length below 1; at ``s = 0`` it and its slope are 0. The logits are the lengths
    of the class capsules and :meth:`criterion` is the paper's margin loss; as with cross-entropy, label smoothing makes
    it a mixture over the labels (``T`` is no longer 0 and 1).

    .. math:: \sum_j T_j \max(0, 0.9 - |v_j|)^2 + 0.5 \, (1 - T_j) \max(0, |v_j| - 0.1)^2

    The paper has a matrix for each position, so its capsules take maps of one size. Shared over positions they take
    any; since votes are summed, lengths grow with the map, for all classes alike.

    The decoder reads the true class's capsule (the others set to 0) and gives pixels from 0 to 1. Images reach the
    model normalised, so it is held to what they are when each is stretched to fill 0 to 1.

    Args:
        channels, num_classes: see :class:`~poolbench.heads.base.Head`.
        size: ``(H, W)`` of the last map, in pixels; required unless ``shared``.
        types: primary capsules at a position.
        primary_size, class_size: length of a primary and of a class capsule.
        primary_kernel, primary_stride, primary_padding: of the convolution that gives the primary capsules, in pixels.
        iterations: how often the class capsules are formed; 1: all votes count alike.
        leaky: let a capsule's vote go nowhere: one more class, of constant ``b = 0``, takes its share and is dropped.
        shared: one matrix for a type and a class, whatever the position.
        bias: add a learned vector to each class capsule before its squash, as the authors' code does.
        reconstruction: weight of the sum of squared errors of the decoder's pixels; the paper takes 0.0005. 0: no
            decoder.
        image_size: ``(H, W)`` of the images that the decoder gives, in pixels, which have 3 channels.
    Use: when parts should agree about a whole before it counts, rather than each be counted; it trains slowly.
    Shape: ``(N, C, H, W) -> (N, K)``, with ``(H, W) = size`` unless ``shared``.
    Raises: ValueError naming the option for a value that is not allowed, and the sizes for a map or an image that does
        not fit.
    Source: Sabour, Frosst and Hinton, NeurIPS 2017.
    """

    variants = ({"leaky": True, "bias": True, "iterations": 2}, {"shared": False}, {"types": 3, "iterations": 1})

    def __init__(
        self,
        channels: int,
        num_classes: int,
        size: tuple[int, int] | None = None,
        types: int = 8,
        primary_size: int = 8,
        primary_kernel: int = 1,
        primary_stride: int = 1,
        primary_padding: int = 0,
        class_size: int = 16,
        iterations: int = 3,
        leaky: bool = False,
        shared: bool = True,
        bias: bool = False,
        reconstruction: float = 0.0,
        image_size: Sequence[int] | None = None,
    ):
        self.checked("primary_kernel", primary_kernel, whole(1))
        least = whole(0, primary_kernel - 1, ", less than primary_kernel")
        self.checked("primary_padding", primary_padding, least)
        super().__init__(
            channels,
            num_classes,
            size,
            hidden=(),
            features=1,
            least_side=max(1, primary_kernel - 2 * primary_padding),
            because=f"primary_kernel is {primary_kernel} and primary_padding {primary_padding}",
        )
        self.classifier = nn.Identity()  # the lengths are the logits
        self.types = self.checked("types", types, whole(1))
        self.primary_size = self.checked("primary_size", primary_size, whole(1))
        self.checked("primary_stride", primary_stride, whole(1))
        self.class_size = self.checked("class_size", class_size, whole(1))
        self.iterations = self.checked("iterations", iterations, whole(1))
        self.leaky = self.checked("leaky", leaky, TRUTH)
        self.any_size = self.shared = self.checked("shared", shared, TRUTH)
        self.checked("bias", bias, TRUTH)
        self.reconstruction = float(self.checked("reconstruction", reconstruction, number(least=0)))
        self.image_size = self._checked_image_size(image_size)
        self.primary = nn.Conv2d(
            channels, types * primary_size, primary_kernel, stride=primary_stride, padding=primary_padding
        )
        if self.size is None and not shared:
            raise ValueError(
                f"{self._name()}: size=(H, W) of the last map is needed: each of its positions has its matrices "
                "(shared=true does without)"
            )
        # Without a size the usual 8x8: it matters for the scale of the first matrices alone.
        positions = 64 if self.size is None else math.prod(self._positions(self.size))
        self.voters = types * positions
        self.sharing = positions if shared else 1  # positions that one matrix serves
        groups = self.voters // self.sharing
        # Of three axes, not four: it is no filter, which trainers keep in another memory format.
        self.matrices = nn.Parameter(torch.empty(num_classes, groups * primary_size, class_size))
        self.bias = nn.Parameter(torch.empty(num_classes, class_size)) if bias else None
        self.decoder = self._make_decoder() if reconstruction else None
        self.reset_parameters()

    @torch.no_grad()
    def reset_parameters(self) -> None:
        # So that first lengths are neither 0 nor 1, where squash is flat. The sum of votes grows with the root of their
        # number, or with their number where one matrix gave them; a class gets 1 / K of each, but votes K times as long
        # would decide the routing before anything is learned, hence the root. For the paper's 1,152 capsules and ten
        # classes this is the 0.1 of the authors' code.
        self.matrices.normal_(std=1.07 * math.sqrt(self.num_classes / (self.voters * self.sharing)))
        if self.bias is not None:
            self.bias.fill_(0.1)  # as in the authors' code

    def capsules(self, x: Tensor) -> Tensor:
        """The class capsules ``(N, K, class_size)`` of maps ``(N, C, H, W)``."""
        self._check_map(x)
        self._positions((x.shape[-2], x.shape[-1]))  # says which sizes do not fit
        u = self.primary(x)
        with full_precision(u):
            u = squash(wide(u).flatten(2).unflatten(1, (self.types, self.primary_size)), 2)
            if not self.shared:
                u = u.transpose(2, 3).flatten(1, 2).unsqueeze(3)
            bias = None if self.bias is None else self.bias.to(u.dtype)
            return route(u, self.matrices.to(u.dtype), bias, self.iterations, self.leaky)

    def pool(self, x: Tensor) -> Tensor:
        return self._lengths(self.capsules(x))

    def criterion(self, logits: Tensor, y: Tensor, label_smoothing: float = 0.0) -> Tensor:
        """Mean margin loss of the class capsules' lengths ``(N, K)`` for labels ``(N,)``."""
        lengths = logits.float()
        target = F.one_hot(y, self.num_classes).to(lengths.dtype)
        target = target * (1 - label_smoothing) + label_smoothing / self.num_classes
        present, absent = (_PRESENT - lengths).relu().square(), (lengths - _ABSENT).relu().square()
        return (target * present + _WEIGHT_OF_ABSENT * (1 - target) * absent).sum(1).mean()

    def training_loss(self, maps: Tensor, images: Tensor, y: Tensor, label_smoothing: float) -> tuple[Tensor, Tensor]:
        """The margin loss and, where there is a decoder, its error in the images, and the logits."""
        if self.decoder is None:
            return super().training_loss(maps, images, y, label_smoothing)
        if tuple(images.shape[-2:]) != self.image_size:
            raise ValueError(
                f"{self._name()}: image_size is {self.image_size[0]}x{self.image_size[1]} "
                f"and the images are {images.shape[-2]}x{images.shape[-1]}"
            )
        capsules = self.capsules(maps)
        logits = self._lengths(capsules)
        true = F.one_hot(y, self.num_classes).to(capsules.dtype)
        pixels = self.decoder((capsules * true[..., None]).flatten(1)).float()
        images = images.flatten(1).float()
        low, high = images.amin(1, keepdim=True), images.amax(1, keepdim=True)
        error = (pixels - (images - low) / (high - low).clamp(min=1e-6)).square().sum(1).mean()
        return self.criterion(logits, y, label_smoothing) + self.reconstruction * error, logits

    def flops(self, size: tuple[int, int]) -> int:
        # The convolution and the matrix products are counted where they happen.
        rows, columns = self._positions(size)
        capsules, classes = self.types * rows * columns, self.num_classes
        squashing = capsules * (3 * self.primary_size + 3) + self.iterations * classes * (3 * self.class_size + 3)
        summing = capsules * self.primary_size  # the first time all count alike
        softmax = (self.iterations - 1) * capsules * 5 * (classes + self.leaky)
        # One capsule a matrix: its agreement and its share are no matrix products either.
        alone = (
            0
            if self.shared and rows * columns > 1
            else (self.iterations - 1) * capsules * classes * 3 * self.primary_size
        )
        return squashing + summing + softmax + alone + 2 * classes * self.class_size

    def extra_repr(self) -> str:
        return f"types={self.types}, iterations={self.iterations}, leaky={self.leaky}, shared={self.shared}"

    def _lengths(self, capsules: Tensor) -> Tensor:
        return torch.linalg.vector_norm(capsules, dim=-1).to(self.matrices.dtype)

    def _positions(self, size: tuple[int, int]) -> tuple[int, int]:
        """Rows and columns of primary capsules on a map of ``size``."""
        if not self.shared and self.size is not None and tuple(size) != self.size:
            raise ValueError(
                f"{self._name()}: it was built for maps of {self.size[0]}x{self.size[1]} pixels "
                f"and got {size[0]}x{size[1]}; shared=true takes any size"
            )
        kernel, stride, padding = (
            value[0] for value in (self.primary.kernel_size, self.primary.stride, self.primary.padding)
        )
        rows, columns = ((length + 2 * padding - kernel) // stride + 1 for length in size)
        return rows, columns

    def _checked_image_size(self, image_size: Sequence[int] | None) -> tuple[int, int] | None:
        if image_size is None and not self.reconstruction:
            return None
        size = Rule(wholes(2).allowed, "(height, width) in pixels, which reconstruction needs")
        height, width = self.checked("image_size", image_size, size)
        return height, width

    def _make_decoder(self) -> nn.Sequential:
        layers: list[nn.Module] = []
        width = self.num_classes * self.class_size
        for wider in _DECODER:
            layers += [nn.Linear(width, wider), nn.ReLU(inplace=True)]
            width = wider
        return nn.Sequential(*layers, nn.Linear(width, 3 * math.prod(self.image_size)), nn.Sigmoid())


def squash(s: Tensor, dim: int) -> Tensor:
    """``s`` along ``dim`` with its length ``n`` brought to ``n^2 / (1 + n^2)``; 0, with slope 0, at 0."""
    length = torch.linalg.vector_norm(s, dim=dim, keepdim=True)
    return s * (length / (1 + length.square()))


def couplings(agreement: Tensor, dim: int, leaky: bool) -> Tensor:
    """How each capsule spreads its vote over the classes, along ``dim``: softmax, of 0 and them all if ``leaky``."""
    if not leaky:
        return agreement.softmax(dim)
    nowhere = torch.zeros_like(agreement.narrow(dim, 0, 1))
    return torch.cat([nowhere, agreement], dim).softmax(dim).narrow(dim, 1, agreement.shape[dim])


def route(u: Tensor, matrices: Tensor, bias: Tensor | None, iterations: int, leaky: bool) -> Tensor:
    """Class capsules ``(N, K, E)`` of primary capsules ``(N, G, D, P)``, of which the ``P`` of a group share matrices.

    The votes ``(N, G, P, K, E)`` are never formed: both what is done with them, to add them up and to compare them with
    a class capsule, is linear, so the matrices ``(K, G * D, E)`` can go to the sum of the capsules, and to the class
    capsule. That is 10 to 20 times faster with shared matrices. And since agreements add up, they are those with the
    sum of all class capsules so far.
    """
    groups, size, positions = u.shape[1:]
    classes = len(matrices)
    matrices = matrices.view(classes, groups, size, -1)

    def formed(s: Tensor) -> Tensor:
        return squash(s if bias is None else s + bias, -1)

    v = formed(einsum("ngd,kgde->nke", u.sum(-1) / (classes + leaky), matrices))
    so_far = torch.zeros_like(v)
    for _ in range(iterations - 1):
        so_far = so_far + v
        if positions == 1:
            # Products of a vector and a number, for which matrix products would be slow.
            alone = u[..., 0]
            wanted = einsum("nke,kgde->kngd", so_far, matrices)
            shares = couplings((wanted * alone).sum(-1, keepdim=True), 0, leaky)
            s = einsum("kngd,kgde->nke", shares * alone, matrices)
        else:
            wanted = einsum("nke,kgde->ngkd", so_far, matrices)
            shares = couplings(wanted @ u, 2, leaky)
            s = einsum("ngkd,kgde->nke", shares @ u.mT, matrices)
        v = formed(s)
    return v
