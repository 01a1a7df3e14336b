"""What a cell does before the first step and after the last: a model prepared, weights averaged, a head fitted."""

import json
import re

import numpy as np
import pandas as pd
import pytest
import torch

import poolbench
from poolbench import cell
from poolbench.records.outcomes import right_bits, wrong_outcomes
from poolbench.records.state import DAMAGED, DONE
from poolbench.registry import component
from poolbench.sweep.plan import make_plan
from poolbench.training import checkpoint
from tests.commands import run_code, run_poolbench

SMALL = [
    "data=shapes",
    "data.train_samples=300",
    "data.test_samples=100",
    "trainer.epochs=2",
    "trainer.batch_size=50",
    "trainer.threads=1",
]


def run(folder, *arguments):
    """The record of ``poolbench run``; ``arguments`` go before what is usual here."""
    given = {argument.partition("=")[0] for argument in arguments}
    usual = [argument for argument in SMALL if argument.partition("=")[0] not in given]
    done = run_poolbench(folder, "run", *usual, *arguments)
    assert done.returncode == 0, done.stdout + done.stderr
    (record,) = (folder / "runs").iterdir()
    return record, json.loads((record / "result.json").read_text())


def refused(folder, *arguments):
    done = run_poolbench(folder, "run", *SMALL, *arguments)
    assert done.returncode != 0
    assert not (folder / "runs").exists() or not list((folder / "runs").glob("*/checkpoint.pt"))
    return done.stdout + done.stderr


def test_a_head_is_fitted_after_the_last_epoch_and_kept(tmp_path):
    options = ["head.centres=4", "head.descriptor_dimension=4", "head.dimension=8", "head.fit_samples=100"]
    record, result = run(tmp_path, "model=convnet_small", "head=mop", *options)
    trained = poolbench.load(record)
    assert trained.model.head.fitted
    assert 0 <= result["test_accuracy"] <= 1
    # What was measured is the fitted head, and so is its cost.
    again, _ = run_again(tmp_path, "model=convnet_small", "head=mop", *options)
    assert again["test_accuracy"] == result["test_accuracy"]
    untrained = poolbench.create_head("mop", channels=64, num_classes=10, centres=4)
    assert result["pool_flops"] > untrained.flops((4, 4))


OWN = """
from torch import nn
class Plain(nn.MaxPool2d):
    def __init__(self, channels):
        super().__init__(2)
"""


def test_a_net_whose_pool_says_no_flops_is_not_counted_and_nothing_shows_a_number(tmp_path):
    (tmp_path / "ours.py").write_text(OWN)
    options = [*SMALL, "model=fast_cnn_tiny", "trainer.sizes=[16,32]"]
    done = run_poolbench(tmp_path, "run", *options, "pool=custom", "pool._target_=ours.Plain")
    assert done.returncode == 0, done.stderr
    assert "parameters, FLOPs not counted: a pool says none, trained in" in done.stdout
    run_poolbench(tmp_path, "run", *options, "pool=max")
    results = [json.loads(path.read_text()) for path in tmp_path.glob("runs/*/result.json")]
    own, counted = sorted(results, key=lambda result: result["forward_flops"] is not None)
    assert {own[name] for name in ("forward_flops", "pool_flops", "train_flops")} == {None}
    assert own["seen_flops"] < counted["forward_flops"]
    assert "seen_flops" not in counted
    done = run_poolbench(tmp_path, "report", "runs", "--output", "told")
    assert "not counted" in done.stdout
    table = pd.read_csv(tmp_path / "told/summary.csv").set_index("pool")
    assert table["forward_flops"].isna().to_dict() == {"Plain": True, "max": False}
    assert "not counted, so not drawn: Plain" in (tmp_path / "told/cost.svg").read_text()
    page = (tmp_path / "told/index.html").read_text()
    assert re.search(r'<th scope="row">Plain</th>.*not counted</td>', page)


def run_again(folder, *arguments):
    """Lose the result and what came after the last epoch but one; the same command makes up for it."""
    (record,) = (folder / "runs").iterdir()
    before = json.loads((record / "result.json").read_text())
    (record / "result.json").unlink()
    state = checkpoint.read(record / "checkpoint.pt", before["run_id"])
    state["progress"]["settled"] = False
    for name in ("fitted", "weight", "bias"):
        state["model"][f"head.{name}"] = torch.zeros_like(state["model"][f"head.{name}"])
    torch.save(state, record / "checkpoint.pt")
    _, after = run(folder, *arguments)
    return after, before


def test_the_average_of_the_weights_is_what_counts(tmp_path):
    record, result = run(tmp_path, "model=convnet_small", "trainer.weight_averaging=0.9")
    state = checkpoint.read(record / "checkpoint.pt", result["run_id"])
    for name, value in state["model"].items():
        assert torch.equal(value, state["average"][f"module.{name}"])
    for name, value in poolbench.load(record).model.state_dict().items():
        assert torch.equal(value, state["model"][name])


def test_a_model_is_prepared_with_training_images(tmp_path):
    record, _ = run(tmp_path, "model=fast_cnn_tiny", "trainer.flip_averaging=true", "trainer.sizes=[16,32]")
    result = json.loads((record / "result.json").read_text())
    first = poolbench.load(record).model.features.stem.conv.weight
    half = len(first) // 2
    assert torch.equal(first[:half], -first[half:])
    assert 0 <= result["flip_averaged_accuracy"] <= 1
    # An epoch at 16 pixels costs about a quarter of one at 32.
    full = 3 * result["forward_flops"] * result["images_seen"]
    assert 0.55 * full < result["train_flops"] < 0.7 * full
    assert len(pd.read_csv(record / "metrics.csv")) == 2


def test_what_was_right_is_kept_image_by_image(tmp_path):
    record, result = run(tmp_path, "model=convnet_small", "trainer.epochs=2")
    outcomes = json.loads((record / "outcomes.json").read_text())
    assert wrong_outcomes(outcomes, result["test_accuracy"]) is None
    assert outcomes["images"] == result["test_samples"]
    chances = np.load(record / "log_probabilities.npy", allow_pickle=False)
    assert (chances.dtype, chances.shape) == (np.float16, (result["test_samples"],))
    assert result["true_class_probability"] == pytest.approx(np.exp(chances.astype(float)).mean(), rel=2e-3)
    assert result["test_loss"] == pytest.approx(-chances.astype(float).mean(), rel=2e-3)
    trained = poolbench.load(record)
    images = component("data", trained.config["data"])().load(0)
    with torch.no_grad():
        sides = [trained.transform(images.test_images), trained.transform(images.test_images.flip(2))]
        logits = [trained.model(x) for x in sides]
    right = [logit.argmax(1) == images.test_labels for logit in logits]
    assert result["mirror_mean_accuracy"] == pytest.approx(sum(one.float().mean().item() for one in right) / 2)
    bits = f"{right_bits(outcomes):0{8 * -(-len(right[0]) // 8)}b}"[: len(right[0])]
    assert bits == "".join("01"[one] for one in right[0])


def test_a_net_with_another_loss_keeps_the_bits_alone(tmp_path):
    record, result = run(tmp_path, "model=convnet_small", "head=capsule", "head.shared=true")
    assert result["true_class_probability"] is None
    assert (record / "outcomes.json").exists()
    assert not (record / "log_probabilities.npy").exists()


def test_what_is_skipped_is_not_counted(tmp_path):
    _, result = run(tmp_path, "model=convnet_small", "trainer.epochs=4", "trainer.skip_easy=0.4")
    assert result["images_seen"] == 300 + 300 + 150 + 300  # of the 180 that are left three batches of 50
    assert result["train_flops"] == 3 * result["forward_flops"] * result["images_seen"]


TOLD = """
import json, sys
from poolbench import cell
from poolbench.sweep.plan import make_plan
from poolbench.training import loop

loop.PROGRESS_SECONDS = 0  # after each step
told = []

def announce(status):
    told.append(status)
    if status["epoch"] == 2 and None not in told:
        raise KeyboardInterrupt

config = make_plan(sys.argv[1:]).cells[0].config
try:
    cell.train_cell(config, {"commit": "", "dirty": False}, announce=announce)
except KeyboardInterrupt:
    told.append(None)
    cell.train_cell(config, {"commit": "", "dirty": False}, announce=announce)
print(json.dumps(told))
"""


def test_what_is_done_and_what_is_left_are_told_by_the_flops_of_the_epochs(tmp_path):
    usual = [option for option in SMALL if not option.startswith("trainer.epochs=")]
    options = [*usual, "model=fast_cnn_tiny", "trainer.sizes=[16,32]", "trainer.epochs=4", "trainer.skip_easy=0.4"]
    done = run_code(tmp_path, TOLD, *options)
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    (path,) = tmp_path.glob("runs/*/result.json")
    result = json.loads(path.read_text())
    large = result["forward_flops"]
    small = (result["train_flops"] / 3 - 600 * large) / 450
    work = [300 * small, 300 * large, 150 * small, 300 * large]
    killed = told.index(None)
    assert [status["share_done"] for status in told[:2]] == [None, 0.0]
    # The second epoch had not been kept when it was killed.
    assert [status["share_done"] for status in told[killed + 1 : killed + 3]] == [None, work[0] / sum(work)]
    ended = [status for status in told if status and status["epoch"] in (1, 2, 3, 4) and status["seconds_left"]]
    assert [status["epoch"] for status in ended] == [1, 2, 2, 3]
    for status in ended:
        epoch = int(status["epoch"])
        assert status["share_done"] == pytest.approx(sum(work[:epoch]) / sum(work))
        speed = status["images_per_second"] * [small, large, small, large][epoch - 1]  # FLOPs per second
        assert status["seconds_left"] == pytest.approx(sum(work[epoch:]) / speed)
    half = next(status for status in told if status and status["epoch"] == 1.5)
    assert half["share_done"] == pytest.approx((work[0] + 0.5 * work[1]) / sum(work))
    assert (told[-1]["state"], told[-1]["share_done"], told[-1]["seconds_left"]) == ("done", 1.0, 0.0)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["trainer.alternate_flip=true", "data.augmentation.flip=false"], "needs data.augmentation.flip=true"),
        (["trainer.sizes=[32,2]"], "trainer.sizes: the model does not take images of 2 pixels"),
        (["trainer.sizes=[32,24]", "head=flatten"], "trainer.sizes: the model does not take images of 24 pixels"),
    ],
)
def test_what_does_not_fit_is_refused_before_any_work(tmp_path, options, words):
    assert words in refused(tmp_path, "model=convnet_small", *options)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"epoch": 3}, "unknown option 'trainer.epoch'. Did you mean 'trainer.epochs'?"),
        ({"epochs": -1}, "trainer.epochs must be a whole number of at least 0"),
    ],
)
def test_a_config_that_nobody_checked_fails_with_its_option_named(tmp_path, monkeypatch, options, words):
    monkeypatch.chdir(tmp_path)
    (planned,) = make_plan(SMALL).cells
    config = {**planned.config, "trainer": {**planned.config["trainer"], **options}}
    assert cell.train_cell(config, {}) == "failed"
    status = json.loads((planned.folder / "status.json").read_text())
    assert status["error"].startswith(words)


def test_a_damaged_record_is_not_set_aside_by_who_was_passed_over(tmp_path, monkeypatch):
    def slept(folder):
        (folder / "claim.1").write_text("{}")
        return DAMAGED

    monkeypatch.setattr(cell, "record_state", slept)
    assert cell.train_cell({"runs_dir": str(tmp_path), "run_id": "cell"}, {}) == "busy"
    assert [path.name for path in tmp_path.iterdir()] == ["cell"]
    assert [path.name for path in (tmp_path / "cell").iterdir()] == ["claim.1"]


def test_who_finds_a_cell_done_sweeps_what_was_left_half_written(tmp_path, monkeypatch):
    monkeypatch.setattr(cell, "record_state", lambda folder: DONE)
    (tmp_path / "cell").mkdir()
    (tmp_path / "cell" / ".status.json.123-abcdef.tmp").write_text("half")
    assert cell.train_cell({"runs_dir": str(tmp_path), "run_id": "cell"}, {}) == "done"
    assert list((tmp_path / "cell").iterdir()) == []
