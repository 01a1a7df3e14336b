"""From a record back to its trained model."""

import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy
import torch
from PIL import Image
from torch import Tensor, nn

from poolbench.assembly import build_model
from poolbench.data.augment import plain_batches
from poolbench.data.pictures import fitted
from poolbench.records.find import find_record
from poolbench.records.read import read_record
from poolbench.training import checkpoint
from poolbench.trust import check_trust


@dataclass
class Trained:
    """A trained model and what is needed to use it.

    ``transform`` takes images as the data set has them, uint8 ``(N, H, W, 3)`` or ``(H, W, 3)``, tensor or array, and
    gives what ``model`` takes, float ``(N, 3, H, W)``, normalised, not augmented. A PIL image, or a list of them, is
    first read as ``data=image_folder`` reads a file: upright, RGB, resized and cropped to the size of the data set.
    """

    model: nn.Module
    config: dict[str, Any]
    transform: Callable[[Any], Tensor]
    classes: tuple[str, ...]


def load(
    run: str | os.PathLike[str], runs_dir: str | os.PathLike[str] = "runs", trust: bool | Iterable[str] = False
) -> Trained:
    """Give back the trained model of a record, in evaluation mode, on the CPU. The data need not be there.

    Args:
        run: the record's folder, or its ``run_id`` or a unique beginning or end of it in ``runs_dir``.
        runs_dir: where records are.
        trust: a record names the classes that it is made of, and building the model calls them. Components of
            poolbench and layers of ``torch.nn`` and ``torchvision.ops`` are taken; for others name their packages,
            ``trust=["mypkg"]``, or say True for all.
    Raises: ValueError when there is no such record, it cannot be read or names a class that is not trusted;
        FileNotFoundError without a checkpoint.
    """
    folder = find_record(run, Path(runs_dir))
    config = read_record(folder).config
    try:
        check_trust({part: config.get(part) for part in ("pool", "head", "model")}, trust)  # what is built here
    except ValueError as error:
        raise ValueError(f"{error}: load(..., trust=[...])") from error
    if not (folder / "checkpoint.pt").exists():
        raise FileNotFoundError(f"{folder} has no checkpoint.pt: the cell has not finished an epoch, or it was pruned")
    state = checkpoint.read(folder / "checkpoint.pt", config["run_id"])
    data = state["data"]
    model = build_model(config, len(data["classes"]), tuple(data["size"]), weights=False)
    model.load_state_dict(state["model"])

    def transform(pictures: Any) -> Tensor:
        several = list(pictures) if isinstance(pictures, (list, tuple)) else [pictures]
        if several and all(isinstance(one, Image.Image) for one in several):
            pictures = numpy.stack([fitted(one, tuple(data["size"])) for one in several])
        batch = pictures if isinstance(pictures, Tensor) else torch.as_tensor(numpy.array(pictures))
        if batch.dim() == 3:
            batch = batch[None]
        if batch.dim() != 4 or batch.dtype != torch.uint8 or batch.shape[-1] != 3:
            raise ValueError(f"images must be uint8 (N, H, W, 3), got {batch.dtype} {tuple(batch.shape)}")
        labels = torch.zeros(len(batch), dtype=torch.int64)
        return next(iter(plain_batches(batch, labels, len(batch), data["mean"], data["std"])))[0]

    return Trained(model.eval(), config, transform, tuple(data["classes"]))
