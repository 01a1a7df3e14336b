"""Reading measures of a trained cell later, on its checkpoint."""

import os
import time
from collections.abc import Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn

from poolbench.assembly import build_model, check_probes, prepare
from poolbench.configuration import ConfigError
from poolbench.data.augment import plain_batches
from poolbench.data.base import DataError
from poolbench.measure.readings import read_measures
from poolbench.measure.subject import Subject
from poolbench.measure.test_set import read_test_set
from poolbench.options import Trainer
from poolbench.records import environment, files, later
from poolbench.records.identity import SCHEMA_VERSION, with_added
from poolbench.records.probes import counting
from poolbench.records.read import Record, read_json
from poolbench.records.times import now
from poolbench.registry import component
from poolbench.training import checkpoint, determinism, process
from poolbench.trust import check_trust


def probe_record(
    record: Record,
    probe: Mapping[str, Any],
    root: str | os.PathLike[str] | None = None,
    trust: bool | Iterable[str] = False,
) -> dict[str, Any] | None:
    """Read ``probe`` of the trained net of ``record``, a folder, and keep the answers in it, beside ``result.json``.

    Args:
        probe: options of ``conf/probe/``; root: of the data, where it is not where the record says.
        trust: packages whose code the record may name, or True for all.
    Returns: what was written; None where the same was asked before.
    Raises: ConfigError for what cannot be read of this net; ValueError for a record that is not trained, or names code
        that is not trusted; DataError where its data is not there or is another.
    """
    asked = counting(probe)
    if not asked:
        raise ConfigError("probe: nothing is asked for; probe=all asks for everything")
    file = record.path / later.file_of(probe)
    if file.exists():
        return None
    began = time.perf_counter()
    subject = _subject(record, probe, root, trust)
    return _kept(record, asked, read_measures(subject, probe), subject, began)


def read_test_later(record: Record, trust: bool | Iterable[str] = False) -> dict[str, Any]:
    """Read the test set of the trained net of ``record``, a folder, whose training did not, and keep the answer in it,
    beside ``result.json``; where that was done before, nothing is read anew.

    Returns: the member of the record: ``numbers`` has ``test_accuracy`` (a fraction) and ``test_loss``.
    Raises: ValueError for a record that read its test set when it was trained, and as :func:`probe_record`.
    """
    if record.numbers.get("test_accuracy") is not None:
        raise ValueError(f"{record.path} read its test set at the end of its training")
    if known := read_json(record.path / later.file_of(later.TEST)):
        return known
    began = time.perf_counter()
    subject = _subject(record, {}, None, trust)
    return _kept(record, dict(later.TEST), read_test_set(subject), subject, began)


def _kept(
    record: Record, asked: dict[str, Any], numbers: dict[str, float], subject: Subject, began: float
) -> dict[str, Any]:
    """Write the answers to what was ``asked`` into ``record``; they were begun at ``began``, of a counter."""
    here = environment.describe(
        process.device_name(subject.device),
        torch.get_num_threads(),
        torch.backends.cpu.get_cpu_capability(),
        False,
        environment.code_version(),
        record.config,
        determinism.switches(),
    )
    content = {"schema_version": SCHEMA_VERSION, "run_id": record.run_id, "probe": asked, "numbers": numbers}
    content |= {name: here[name] for name in ("fingerprint", "commit", "dirty")}
    content |= {"seconds": time.perf_counter() - began, "finished": now()}
    files.write_json(record.path / later.file_of(asked), content)
    return content


def _subject(
    record: Record, probe: Mapping[str, Any], root: str | os.PathLike[str] | None, trust: bool | Iterable[str]
) -> Subject:
    """The trained net of ``record`` and its test images."""
    if record.result is None or not (record.path / "checkpoint.pt").is_file():
        raise ValueError(f"{record.path} has no trained net: it has not finished, or its checkpoint was pruned")
    config = record.config
    try:
        check_trust({part: config.get(part) for part in ("pool", "head", "model", "data")}, trust)
    except ValueError as error:
        raise ValueError(f"{error}, --trust PACKAGE") from error
    trainer = Trainer(**with_added(config)["trainer"])
    data = {**config["data"], **({"root": str(root)} if root else {})}
    device = process.choose_device(trainer.device)
    process.set_up(device, trainer.threads, trainer.keep_memory)
    source = component("data", data)()
    source.check()
    info = source.info()
    if info.fingerprint != config.get("data_fingerprint", info.fingerprint):
        raise DataError(f"{record.path} was trained on other data than is at {data.get('root')!r} now")

    def built() -> nn.Module:
        return build_model(config, info.num_classes, info.size)

    model = built()
    check_probes(dict(probe), model, info)
    model.load_state_dict(checkpoint.read(record.path / "checkpoint.pt", record.run_id)["model"])
    images = source.load(config["seed"])
    mean, std = tuple(images.mean), tuple(images.std)
    look = partial(plain_batches, batch_size=trainer.evaluation_batch_size, mean=mean, std=std, device=device)

    def untrained() -> nn.Module:
        net = built().to(device)
        prepare(net, images, look)
        return net.eval()

    test = partial(look, images.test_images, images.test_labels)
    return Subject(model.to(device).eval(), test, mean, std, config["seed"], trainer.precision, untrained)


def finished_folders(paths: Iterable[Path]) -> list[Path]:
    """Folders of finished cells below ``paths``: folders of records, or single ones."""
    found: list[Path] = []
    for path in paths:
        own = [path] if (path / "config.yaml").is_file() else sorted(p.parent for p in path.glob("*/config.yaml"))
        found += [folder for folder in own if (folder / "result.json").is_file() and ".damaged-" not in folder.name]
    return found
