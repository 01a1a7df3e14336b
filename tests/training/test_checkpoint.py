"""A checkpoint gives back what was saved, or says that it cannot; it never runs what is in the file."""

import pickle
import re

import pytest
import torch
from torch import nn

from poolbench.training import checkpoint
from poolbench.training.optimizers import sgd
from poolbench.training.state import Progress, TrainingState

PROGRESS = Progress(2, [{"epoch": 1, "validation_loss": None}, {"epoch": 2}], 1.5, 200, 2.5, 1, ["aa", "bb"])
pytestmark = pytest.mark.filterwarnings("ignore:Detected pickle protocol")

DATA = {"size": (8, 8), "classes": ("a", "b"), "mean": (0.1, 0.2, 0.3), "std": (1.0, 1.0, 1.0)}


class Bomb:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), "w")


def parts(seed):
    torch.manual_seed(seed)
    model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4))
    return model, sgd(model), torch.amp.GradScaler("cpu", init_scale=2.0 ** (10 + seed))


@pytest.fixture
def saved(tmp_path):
    model, optimizers, scaler = parts(1)
    model(torch.randn(5, 3)).sum().backward()
    optimizers.optimizers[0].step()
    scaler.scale(torch.ones(()))
    state = TrainingState(model, optimizers, scaler, progress=PROGRESS)
    checkpoint.save(tmp_path / "checkpoint.pt", state, "cell", DATA)
    return tmp_path / "checkpoint.pt", state


def test_everything_is_given_back(saved):
    path, state = saved
    other = TrainingState(*parts(2))
    other.scaler.scale(torch.ones(()))
    content = checkpoint.read(path, "cell")
    other.load_state_dict(content)
    assert other.progress == PROGRESS
    assert content["data"] == DATA
    weights = [one.model.state_dict().values() for one in (state, other)]
    assert all(torch.equal(a, b) for a, b in zip(*weights, strict=True))
    buffers = [
        [part["momentum_buffer"] for part in one.optimizers.state_dict()[0]["state"].values()] for one in (state, other)
    ]
    assert all(torch.equal(a, b) for a, b in zip(*buffers, strict=True))
    assert other.scaler.get_scale() == state.scaler.get_scale() == 2.0**11
    assert [p.name for p in path.parent.iterdir()] == ["checkpoint.pt"]


@pytest.mark.parametrize("offset", [0, 3])
def test_a_flipped_bit_among_the_weights_is_noticed(saved, offset):
    path, state = saved
    content = bytearray(path.read_bytes())
    place = content.index(state.model[0].weight.detach().numpy().tobytes()) + offset
    content[place] ^= 1
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"checkpoint.pt cannot be read: .* is damaged"):
        checkpoint.read(path, "cell")


def test_a_guard_keeps_the_checkpoint_that_was_there(saved):
    path, state = saved
    before = path.read_bytes()

    def guard():
        raise KeyError

    with pytest.raises(KeyError):
        checkpoint.save(path, state, "cell", DATA, guard=guard)
    assert path.read_bytes() == before
    assert [p.name for p in path.parent.iterdir()] == ["checkpoint.pt"]


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.9, 0.999])
def test_a_truncated_file_is_refused(saved, share):
    path = saved[0]
    whole = path.read_bytes()
    path.write_bytes(whole[: int(len(whole) * share)])
    with pytest.raises(ValueError, match=f"{re.escape(str(path))} cannot be read"):
        checkpoint.read(path, "cell")


@pytest.mark.parametrize("content", [b"", b"not a checkpoint", b"\x80\x04N.", bytes(range(256)) * 40])
def test_a_foreign_file_is_refused(tmp_path, content):
    (tmp_path / "checkpoint.pt").write_bytes(content)
    with pytest.raises(ValueError, match=r"checkpoint\.pt (cannot be read|is not a checkpoint)"):
        checkpoint.read(tmp_path / "checkpoint.pt", "cell")


@pytest.mark.parametrize("content", [{}, [1], None, {"run_id": "other"}])
def test_another_cells_checkpoint_is_refused(tmp_path, content):
    torch.save(content, tmp_path / "checkpoint.pt")
    with pytest.raises(ValueError, match="is not a checkpoint of cell"):
        checkpoint.read(tmp_path / "checkpoint.pt", "cell")


@pytest.mark.parametrize("legacy", [True, False])
def test_code_in_the_file_is_not_run(tmp_path, legacy):
    bomb = {"run_id": "cell", "model": Bomb(tmp_path / "exploded")}
    torch.save(bomb, tmp_path / "checkpoint.pt", _use_new_zipfile_serialization=not legacy)
    with pytest.raises(ValueError, match="cannot be read"):
        checkpoint.read(tmp_path / "checkpoint.pt", "cell")
    (tmp_path / "plain.pt").write_bytes(pickle.dumps(bomb))
    with pytest.raises(ValueError, match="cannot be read"):
        checkpoint.read(tmp_path / "plain.pt", "cell")
    assert not (tmp_path / "exploded").exists()
    pickle.loads((tmp_path / "plain.pt").read_bytes())["model"].close()
    assert (tmp_path / "exploded").exists()  # it would have been


def test_a_failed_save_leaves_the_last_one(saved):
    path, state = saved
    with pytest.raises((TypeError, AttributeError, pickle.PicklingError)):
        checkpoint.save(path, state, "cell", {"size": lambda: None})
    assert checkpoint.read(path, "cell")["data"] == DATA
    assert [p.name for p in path.parent.iterdir()] == ["checkpoint.pt"]


def test_a_disk_that_fails_says_nothing_of_the_checkpoint(tmp_path, monkeypatch):
    def fails(*arguments):
        raise OSError(5, "Input/output error")

    path = tmp_path / "checkpoint.pt"
    path.write_bytes(b"whole")
    monkeypatch.setattr(checkpoint.zipfile, "ZipFile", fails)
    with pytest.raises(OSError, match="Input/output"):
        checkpoint.read(path, "any")
