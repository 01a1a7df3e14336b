"""Batches of normalised images from a set in memory; training batches are shuffled and augmented image by image."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import torch
from torch import Generator, Tensor

from poolbench.data.base import checked_augmentation


class Batches:
    """Training batches: every image of a batch has its own mirroring, crop and cutout; no loop over images.

    An image is shifted by up to `crop` pixels each way, the border filled by reflection (the edge is not repeated);
    mirrored with probability 1/2 if `flip`; and, if `cutout` > 0, a square of that side that lies wholly in the image
    is set to the training mean, which is 0 after normalisation.

    Args:
        images: uint8 (N, H, W, 3). labels: int64 (N,).
        batch_size: images a batch; the last partial batch of an epoch is dropped.
        mean, std: 3 floats each, for pixels in [0, 1].
        augmentation: dict(flip, crop, cutout), see `DataSource`.
        device: where batches are made; the set is moved there, once, unless it would fill it.
        dtype: of the images handed out.
    Raises: ValueError if there are fewer images than `batch_size`, or for a wrong augmentation.
    """

    def __init__(
        self,
        images: Tensor,
        labels: Tensor,
        batch_size: int,
        mean: Sequence[float],
        std: Sequence[float],
        augmentation: Mapping[str, int | bool] | None,
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
    ) -> None:
        samples, height, width, _ = images.shape
        if not 1 <= batch_size <= samples:
            raise ValueError(f"trainer.batch_size must be from 1 to the {samples} training images, got {batch_size}")
        self.augmentation = checked_augmentation(augmentation, (height, width))
        self.images, self.labels = images.to(device) if _has_room(device, images) else images, labels.to(device)
        self.batch_size, self.device, self.dtype = batch_size, torch.device(device), dtype
        self._scale, self._shift = _normalisation(mean, std, height * width, device)
        # Where the pixels of a crop come from: a row of each table for each shift. Reflection and mirroring are in the
        # tables, so that padding the image and flipping it cost nothing.
        rows, columns = (_windows(length, self.augmentation["crop"]) for length in (height, width))
        self._rows = (rows * width).to(device)
        self._columns = torch.stack([columns, columns.flip(1)], dim=1).flatten(0, 1).to(device)
        self._starts = (torch.arange(batch_size, dtype=torch.int32) * (height * width))[:, None].to(device)

    def __len__(self) -> int:
        """Batches in an epoch."""
        return len(self.images) // self.batch_size

    def epoch(
        self, order: Generator, draws: Generator, mirror: Tensor | None = None, skip: Tensor | None = None
    ) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        """Yield (x, y, which): x (B, 3, H, W) in channels_last, y int64 (B,), and which images of the set they are.

        `order` shuffles and `draws` augments; both are CPU generators, so that a seed means the same on every device.
        `mirror`, 0 or 1 for each image of the set, says which are mirrored in place of the draw; `skip`, bool for each,
        which are left out. The others come in the order and with the augmentation that they would have had.
        Every epoch draws the same amount from each, whatever the options: switching cutout on moves no crop.
        """
        samples = len(self.images)
        _, height, width, _ = self.images.shape
        flip, crop, cutout = self.augmentation["flip"], self.augmentation["crop"], self.augmentation["cutout"]
        chosen = torch.randperm(samples, generator=order)
        mirrored = torch.randint(2, (samples,), generator=draws)
        mirrored = (mirrored if mirror is None else mirror[chosen]) * flip
        down, right = (torch.randint(2 * crop + 1, (samples,), generator=draws) for _ in range(2))
        top, left = (torch.randint(side - cutout + 1, (samples,), generator=draws) for side in (height, width))
        plan = torch.stack([chosen, down, right * 2 + mirrored, top, left])
        if skip is not None:
            plan = plan[:, ~skip[chosen]]
        plan = plan.to(self.device)
        for batch in range(plan.shape[1] // self.batch_size):
            chosen, down, column, top, left = plan[:, batch * self.batch_size : (batch + 1) * self.batch_size]
            x = self._cropped(chosen, down, column)
            x = _normalised(x, self._scale, self._shift)
            if cutout:
                self._cut(x, top, left, cutout)
            yield x.permute(0, 3, 1, 2).to(self.dtype), self.labels[chosen], chosen

    def _cropped(self, chosen: Tensor, down: Tensor, column: Tensor) -> Tensor:
        """uint8 (B, H, W, 3): every pixel fetched from where shift and mirroring say.

        Measured on one core with 32x32 images, microseconds an image: this 3.8; windows of a padded batch, mirrored
        afterwards, 7; the same by advanced indexing (image, row, column) 13; fetching float32 pixels after
        normalising 6. numpy's take on 3-byte items is as fast but has no second device. Most of it is traffic of
        indices, therefore int32, and relative to the batch, so that they fit however large the set.
        """
        images = self.images.index_select(0, chosen.to(self.images.device)).to(self.device)
        rows = self._rows.index_select(0, down).add_(self._starts)
        pixels = rows[:, :, None] + self._columns.index_select(0, column)[:, None, :]
        return images.view(-1, 3).index_select(0, pixels.view(-1)).view(images.shape)

    def _cut(self, x: Tensor, top: Tensor, left: Tensor, side: int) -> None:
        """Set a square of each image of x (B, H, W, 3) to zero, in place."""
        width, reach = x.shape[2], torch.arange(side, device=x.device)
        rows = self._starts + (top[:, None] + reach) * width
        pixels = rows[:, :, None] + (left[:, None] + reach)[:, None, :]
        x.view(-1, 3).index_fill_(0, pixels.view(-1), 0.0)


def _has_room(device: torch.device | str, images: Tensor) -> bool:
    """Whether `images` leave a device with memory of its own half of what is free there, for net and maps."""
    device = torch.device(device)
    return device.type != "cuda" or 2 * images.nbytes <= torch.cuda.mem_get_info(device)[0]


def plain_batches(
    images: Tensor,
    labels: Tensor,
    batch_size: int,
    mean: Sequence[float],
    std: Sequence[float],
    device: torch.device | str = "cpu",
    dtype: torch.dtype = torch.float32,
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield (x, y) in the order of the set, without augmentation, the last partial batch included; as `Batches`."""
    scale, shift = _normalisation(mean, std, images.shape[1] * images.shape[2], device)
    for start in range(0, len(images), batch_size):
        x = _normalised(images[start : start + batch_size].to(device), scale, shift)
        yield x.permute(0, 3, 1, 2).to(dtype), labels[start : start + batch_size].to(device)


def _windows(length: int, crop: int) -> Tensor:
    """int32 (2 * crop + 1, length): positions of a line that each shift shows, reflected at both ends."""
    last = length - 1
    padded = last - (last - torch.arange(-crop, length + crop, dtype=torch.int32).abs()).abs()
    return padded.unfold(0, length, 1)


def _normalisation(
    mean: Sequence[float], std: Sequence[float], pixels: int, device: torch.device | str
) -> tuple[Tensor, Tensor]:
    """Factor and summand of (value / 255 - mean) / std, each float32 (pixels * 3,)."""
    mean, std = (torch.tensor(tuple(values), dtype=torch.float64) for values in (mean, std))
    return tuple(values.float().repeat(pixels).to(device) for values in (1 / (255 * std), -mean / std))


def _normalised(images: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
    """float32 of the shape of `images`, (B, H, W, 3).

    Factors are written out for a whole image: broadcasting over 3 channels would make inner loops of 3 numbers.
    """
    return images.flatten(1).to(torch.float32).mul_(scale).add_(shift).view(images.shape)
