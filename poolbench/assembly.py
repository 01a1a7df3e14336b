"""From a completed config to the parts of a training, built and checked, on the CPU."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from poolbench import accelerator
from poolbench.configuration import ConfigError
from poolbench.data.base import DataInfo, DataSource, Images
from poolbench.limits import check, check_with_data
from poolbench.models.own_net import OWN, as_trunk, without_weights
from poolbench.models.sites import NATIVE, Heads, Sites, Trunk, build, native
from poolbench.options import Trainer
from poolbench.pooling.parts.draws import random_pools
from poolbench.registry import component, locate
from poolbench.training import process
from poolbench.training.loop import Batch, resized
from poolbench.training.optimizers import Optimizers
from poolbench.training.schedules import Schedule

_PREPARE_IMAGES = 5000  # what a model may look at before its first step
_NATIVE_TARGET = f"{native.__module__}.{native.__name__}"


@dataclass
class Parts:
    """What a config assembles."""

    source: DataSource
    info: DataInfo
    model: Trunk
    optimizers: Callable[[nn.Module], Optimizers]
    schedule: Schedule


def build_model(config: dict[str, Any], num_classes: int, size: tuple[int, int], weights: bool = True) -> Trunk:
    """The model of ``config`` with its pools and its head, for images of ``size`` ``(H, W)``, untrained.

    Args:
        weights: whether a net of the user's own gets the weights that its options name; False where a state is loaded
            anyway, so that none is downloaded and no file need be there.
    Raises: ValueError naming the option or the site that is wrong.
    """
    several = isinstance(config["pool"], list)
    makers = [_maker("pool", block) for block in (config["pool"] if several else [config["pool"]])]
    target = config["model"]["_target_"]
    options = {key: value for key, value in config["model"].items() if key != "_target_"}
    if not weights and not target.startswith("poolbench."):
        options = without_weights(target, options)
    made = as_trunk(locate(target, f"model._target_={target}"), num_classes)
    if isinstance(made, type):  # one of ours, or derived from them: these options are of other nets
        for key in OWN:
            if options.pop(key, None) is not None:
                raise ConfigError(f"model.{key} is for nets that are none of poolbench's, and {target} is one")
    model = build(
        made,
        Sites(makers if several else makers[0], config["seed"]),
        Heads(_maker("head", config["head"])),
        num_classes,
        size,
        config["seed"],
        options,
    )
    return model.to(memory_format=torch.channels_last) if config["trainer"]["channels_last"] else model


def prepare(model: nn.Module, images: Images, look: Callable[[Tensor, Tensor], Iterable[Batch]]) -> None:
    """Let a model that wants it take its first weights from training images; the same ones for every seed.

    Args:
        look: batches of images and labels, as the model takes them.
    """
    if callable(getattr(model, "prepare", None)):
        some = slice(0, _PREPARE_IMAGES)
        model.prepare(torch.cat([x for x, _ in look(images.train_images[some], images.train_labels[some])]))


def _maker(group: str, block: dict[str, Any]) -> Any:
    return NATIVE if block["_target_"] == _NATIVE_TARGET else component(group, block)


def _check_size(model: Trunk, size: tuple[int, int], side: int, option: str) -> None:
    """Raises: ConfigError, naming ``option``, when ``model`` does not take images resized to ``side``."""
    was_training = model.training
    model.eval()  # no statistic may move
    try:
        with torch.no_grad(), torch.random.fork_rng(devices=[]):
            model(resized(torch.zeros(1, 3, *size), side))
    except (ValueError, RuntimeError) as error:
        raise ConfigError(f"{option}: the model does not take images of {side} pixels: {error}") from error
    finally:
        model.train(was_training)


def check_probes(probe: dict[str, Any], model: Trunk, info: DataInfo) -> None:
    """Raises: ConfigError for what cannot be read of ``model`` on these images."""
    for side in probe.get("sizes") or []:
        _check_size(model, info.size, side, "probe.sizes")
    if probe.get("draws") and not random_pools(model):
        raise ConfigError(
            f"probe.draws={probe['draws']!r} is for nets with random pools, and no pool of this one draws"
        )


def assemble(config: dict[str, Any], device: torch.device | None = None) -> Parts:
    """Build everything that ``config`` names and check that it fits together, without reading images.

    Args:
        device: what it is for; None for what ``trainer.device`` says.
    Raises: ValueError naming the option or the site that is wrong; DataError for data that is missing.
    """
    check(config)
    trainer = Trainer(**config["trainer"])
    process.check_precision(trainer.precision, device or accelerator.choose(trainer.device))
    source: DataSource = component("data", config["data"])()
    source.check()
    info = source.info()
    check_with_data(config, source, info)
    model = build_model(config, info.num_classes, info.size)
    for side in trainer.sizes or []:
        _check_size(model, info.size, side, "trainer.sizes")
    check_probes(config.get("probe") or {}, model, info)
    parts = Parts(
        source, info, model, component("optimizer", config["optimizer"]), component("schedule", config["schedule"])()
    )
    parts.optimizers(model)  # its options are checked where it is made
    return parts
