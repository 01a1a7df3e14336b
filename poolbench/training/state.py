"""All that a training is made of between two steps, and how far it is."""

import math
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from poolbench.models.sites import Trunk
from poolbench.options import Trainer
from poolbench.training.optimizers import Optimizers


@dataclass
class Progress:
    """How far a training is."""

    epoch: int = 0  # finished epochs
    history: list[dict[str, Any]] = field(default_factory=list)  # one row of metrics.csv per finished epoch
    seconds: float = 0.0  # spent in training steps, evaluation not counted
    images: int = 0  # seen in training
    cell_seconds: float = 0.0  # spent on the cell in all, up to the last finished epoch
    attempts: int = 0  # how often it was taken up again
    fingerprints: list[str] = field(default_factory=list)  # of the environments that it ran in
    losses: Tensor | None = None  # of each training image when it was last seen, where easy ones are skipped
    settled: bool = False  # what comes after the last epoch is done: averaged weights in place, the head fitted


@dataclass
class TrainingState:
    """A net, what trains it, and how far that is: all that a killed training needs to go on.

    Args:
        model: the net.
        optimizers: of its weights.
        scaler: of the loss, for float16.
        average: the running average of the weights, None without one.
        progress: how far it is.
    """

    model: Trunk
    optimizers: Optimizers
    scaler: torch.amp.GradScaler
    average: AveragedModel | None = None
    progress: Progress = field(default_factory=Progress)

    @property
    def counting(self) -> torch.nn.Module:
        """The net whose weights count: the average where there is one."""
        return self.model if self.average is None else self.average.module

    def step(self, loss: Tensor) -> None:
        """Move the weights by the gradients of ``loss``."""
        self.scaler.scale(loss).backward()
        self.optimizers.gather()
        for optimizer in self.optimizers.optimizers:
            self.scaler.step(optimizer)
        self.scaler.update()
        self.optimizers.zero_grad()
        if self.average is not None:
            self.average.update_parameters(self.model)

    def losses_of(self, samples: int, device: torch.device) -> Tensor:
        """``(N,)``: the loss of each training image when it was last seen; infinite before that."""
        if self.progress.losses is None:
            self.progress.losses = torch.full((samples,), math.inf)
        self.progress.losses = self.progress.losses.to(device)
        return self.progress.losses

    def state_dict(self) -> dict[str, Any]:
        """What :meth:`load_state_dict` takes, tensors and plain data."""
        return {
            "model": self.model.state_dict(),
            "optimizers": self.optimizers.state_dict(),
            "scaler": self.scaler.state_dict(),
            "progress": asdict(self.progress),
            "average": None if self.average is None else self.average.state_dict(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on where ``state`` was taken. Raises: KeyError, TypeError, ValueError or RuntimeError for one of another
        training."""
        self.model.load_state_dict(state["model"])
        self.optimizers.load_state_dict(state["optimizers"])
        self.scaler.load_state_dict(state["scaler"])
        if self.average is not None:
            self.average.load_state_dict(state["average"])
        self.progress = Progress(**state["progress"])


def averaged(model: Trunk, trainer: Trainer) -> AveragedModel | None:
    """The running average of the weights that ``trainer.weight_averaging`` asks for, or None."""
    decay = trainer.weight_averaging
    # With the statistics of normalisations: those of the last weights do not belong to averaged ones.
    return AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(decay), use_buffers=True) if decay else None
