"""Checkpoints: all that a training needs to go on as if it had not been killed."""

import io
import os
import zipfile
from pathlib import Path
from typing import Any

import torch

from poolbench.foreign import opened
from poolbench.records.files import Guard, replacing
from poolbench.training.state import TrainingState


def save(path: Path, state: TrainingState, run_id: str, data: dict[str, Any], guard: Guard | None = None) -> None:
    """Write ``path``, whole or not at all, and only if ``guard`` raises nothing; ``data`` is what using the model needs
    to know of its images."""
    content = {"run_id": run_id, "data": data, **state.state_dict()}
    # By way of memory: where the disk is full torch's own writer says something about an unexpected position.
    buffer = io.BytesIO()
    torch.save(content, buffer)
    with replacing(path, guard=guard) as file:
        file.write(buffer.getbuffer())


def read(path: Path, run_id: str) -> dict[str, Any]:
    """What :func:`save` wrote, on the CPU, with all that ``TrainingState.load_state_dict`` takes; code in the file is
    never run.

    Raises: ValueError when the file is damaged or another cell's; OSError when it cannot be read now.
    """
    try:
        with opened(path, inside=path.parent) as file:
            with zipfile.ZipFile(file) as archive:
                _check_archive(archive, os.fstat(file.fileno()).st_size)
            file.seek(0)
            state = torch.load(file, map_location="cpu", weights_only=True)
    except (OSError, MemoryError, torch.OutOfMemoryError):  # of the disk or the machine: the file may be whole
        raise
    except Exception as error:  # torch raises many kinds for a truncated or foreign file
        raise ValueError(f"{path} cannot be read: {str(error).partition(chr(10))[0]}") from error
    if not isinstance(state, dict) or state.get("run_id") != run_id:
        raise ValueError(f"{path} is not a checkpoint of {run_id}")
    return state


def _check_archive(archive: zipfile.ZipFile, size: int) -> None:
    """Raises: ValueError for an archive of ``size`` bytes that is damaged, or would become more in memory."""
    parts = archive.infolist()
    if any(part.compress_type != zipfile.ZIP_STORED for part in parts) or sum(part.file_size for part in parts) > size:
        raise ValueError("it unpacks to more than its size, and a checkpoint is not packed")
    if broken := archive.testzip():  # torch itself does not look at the checksums that it writes
        raise ValueError(f"{broken} is damaged")
    # Of all that torch builds for whoever asks, this alone takes a number and makes memory of it; we write none.
    if any(b"bytearray" in archive.read(part) for part in parts if part.filename.endswith(".pkl")):
        raise ValueError("it asks for empty memory")
