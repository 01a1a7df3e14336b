"""A cell with probes: the same training, and more read of it."""

import json
import re
from pathlib import Path

import pytest
import torch

import poolbench
from poolbench.data.shapes import Shapes
from poolbench.measure.invariance import read_probes
from poolbench.records.difference import MEASURED
from poolbench.records.probes import DEFAULTS, TRANSFORMS, names
from tests.commands import run_poolbench

PAGE = Path(__file__).resolve().parents[1] / "docs/probes.md"
CELL = [
    "data=shapes",
    "data.train_samples=300",
    "data.test_samples=90",
    "data.validation=0.2",
    "model=convnet_small",
    "pool=stochastic",
    "pool.evaluation=draw",
    "trainer.epochs=2",
    "trainer.batch_size=40",
    "trainer.threads=1",
    "trainer.evaluation_batch_size=40",
]
PROBE = {"sizes": [24, 32], "rotate": [-10, 20], "draws": [1, 2], "border": "zeros"}
PROBES = [f"probe.{option}={json.dumps(value).replace(' ', '')}" for option, value in PROBE.items()]


def commands(folder, *lines):
    for line in lines:
        done = run_poolbench(folder, *line)
        assert done.returncode == 0, done.stdout + done.stderr


def record_of(folder):
    (record,) = folder.iterdir()
    return record


def result_of(record):
    result = json.loads((record / "result.json").read_text(encoding="utf-8"))
    return {name: value for name, value in result.items() if name not in (*MEASURED, "run_id")}


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Records of one training without probes, with them, and in a search."""
    folder = tmp_path_factory.mktemp("probes")
    commands(
        folder,
        ["run", *CELL, "runs_dir=plain"],
        ["run", *CELL, *PROBES, "runs_dir=probed"],
        ["run", *CELL, *PROBES, "trainer.test=false", "runs_dir=trial"],
    )
    return folder


def test_training_and_all_other_numbers_are_those_without_probes(trained):
    plain, probed = (record_of(trained / name) for name in ("plain", "probed"))
    assert plain.name != probed.name
    states = [torch.load(record / "checkpoint.pt", weights_only=True)["model"] for record in (plain, probed)]
    assert all(torch.equal(value, states[1][name]) for name, value in states[0].items())
    without, found = result_of(plain), result_of(probed)
    assert {name: found[name] for name in without} == without
    assert sorted(found.keys() - without.keys()) == sorted(names(PROBE))


def test_what_the_record_says_is_what_the_function_reads_of_the_loaded_model(trained):
    record = record_of(trained / "probed")
    one = poolbench.load(record)
    options = {k: v for k, v in one.config["data"].items() if k != "_target_"}
    images = Shapes(**options).load(one.config["seed"])
    x, y = one.transform(images.test_images), images.test_labels
    # A pool draws for a whole batch, so batches are those of the test evaluation.
    found = read_probes(one.model, lambda: zip(x.split(40), y.split(40), strict=True), PROBE, one.config["seed"])
    kept = result_of(record)
    assert {name: kept[name] for name in found} == found


def test_trials_of_a_search_read_no_probes(trained):
    result = result_of(record_of(trained / "trial"))
    assert result["test_accuracy"] is None
    assert not result.keys() & set(names(PROBE))


def test_a_cell_that_was_killed_while_it_read_reads_all_again(trained):
    record = record_of(trained / "probed")
    before = result_of(record)
    (record / "result.json").unlink()
    commands(trained, ["run", *CELL, *PROBES, "runs_dir=probed"])
    assert result_of(record_of(trained / "probed")) == before
    assert json.loads((record / "result.json").read_text(encoding="utf-8"))["resumed"] == 1


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["probe.sizes=[24]", "head=flatten"], "probe.sizes: the model does not take images of 24 pixels"),
        (["probe.sizes=[32,2]"], "probe.sizes: the model does not take images of 2 pixels"),
        (["probe.draws=[4]", "pool=max"], "probe.draws=[4]"),
        (["probe.translate_y=[32.5]"], "probe.translate_y must stay below the 32 pixels of an image, got 32.5"),
        (["probe.samples=91"], "probe.samples must be at most the 90 test images, got 91"),
        (["probe.rotate=[5,5.0]"], "none twice"),
    ],
)
def test_what_cannot_be_read_is_refused_before_any_work(tmp_path, monkeypatch, capsys, options, words):
    from poolbench.cli.main import main

    monkeypatch.chdir(tmp_path)
    plain = [word for word in CELL if not word.startswith("pool") or options[-1] != "pool=max"]
    assert main(["run", *plain, *options]) == 2
    assert words in " ".join(capsys.readouterr().err.split())
    assert not list(tmp_path.glob("runs/*"))


def test_the_page_names_every_option_and_its_example_runs(capsys):
    page = PAGE.read_text(encoding="utf-8")
    for option in DEFAULTS:
        assert f"| `{option}`" in page or f", `{option}` |" in page, option
    for word in TRANSFORMS.values():
        assert f"`{word}`" in page
    (example,) = re.findall(r"^```python\n(.*?)^```$", page, flags=re.M | re.S)
    space = {}
    exec(example, space)
    assert len(capsys.readouterr().out.split()) == 3
    assert space["turned"].shape == space["images"].shape
