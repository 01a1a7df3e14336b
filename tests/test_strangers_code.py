"""An experiment, a search or a tuned file of a stranger runs no code and sets nothing but plain values."""

import shutil
import sys
from pathlib import Path

import pytest

from poolbench.cli.main import main
from poolbench.config_files import ConfigError
from poolbench.sweep.plan import make_plan
from tests.test_untrusted import _sketched  # noqa: F401 - figures take a second each to draw


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A working folder with a module in it; gives the folder. Importing the module leaves a mark."""
    (tmp_path / "hubconf.py").write_text(f"open({str(tmp_path / 'sprung')!r}, 'w').close()\n")
    (tmp_path / "theirs.py").write_text(
        f"open({str(tmp_path / 'sprung')!r}, 'w').close()\nfrom poolbench.pooling import MaxPool2d as Pool\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    yield tmp_path
    sys.modules.pop("theirs", None)


def experiment(place: Path, *lines: str) -> None:
    (place / "experiments/x").mkdir(parents=True, exist_ok=True)
    blocks = "".join(f"      {line}\n" for line in lines)
    (place / "experiments/x/experiment.yaml").write_text(f"sweep:\n  - product:\n      data: [shapes]\n{blocks}")
    shutil.copy(Path(__file__).parents[1] / "experiments/2012_overlapping/claim.yaml", place / "experiments/x")


HUB = ("data._target_: [torch.hub.load]", "+data.repo_or_dir: [.]", "+data.source: [local]", "+data.model: [x]")
THEIRS = {
    "the hub": HUB,
    "a pool": ("pool: [custom]", "pool._target_: [theirs.Pool]"),
    "a list": ("pool: ['[max,{custom:{_target_: theirs.Pool}},max]']",),
    "a head": ("head: [custom]", "head._target_: [theirs.Pool]"),
    "a schedule": ("schedule._target_: [theirs.Pool]",),
    "another folder": ("hydra.searchpath: ['[file://evil]']", "pool: [evil]"),
    "an interpolation": ("pool: [custom]", "pool._target_: ['${names}.Pool']"),
}


@pytest.mark.parametrize("lines", THEIRS.values(), ids=THEIRS)
@pytest.mark.parametrize(
    "command",
    [
        ["plan", "sweep=x"],
        ["sweep", "sweep=x"],
        ["reproduce", "x"],
        ["reproduce", "x", "--plan"],
        ["status", "sweep=x"],
    ],
    ids=" ".join,
)
def test_an_experiment_of_a_stranger_runs_no_code(place, capsys, lines, command):
    (place / "evil/pool").mkdir(parents=True)
    (place / "evil/pool/evil.yaml").write_text("_target_: theirs.Pool\n")
    experiment(place, *lines)
    assert main(command) == 2
    assert not (place / "sprung").exists()
    assert not (place / "runs").exists()


def test_a_search_of_a_strangers_sweep_runs_no_code(place, capsys):
    experiment(place, *HUB)
    assert main(["tune", "sweep=x", "--param", "optimizer.lr=0.1,0.2", "--plan"]) == 2
    assert "data._target_ is 'torch.hub.load'" in capsys.readouterr().err
    assert not (place / "sprung").exists()


def test_code_that_the_user_names_or_trusts_is_taken(place, capsys):
    own = ["pool=custom", "pool._target_=theirs.Pool", "data=shapes"]
    assert main(["plan", *own]) == 0
    assert main(["plan", "pool=custom", "pool._target_=theirs.Pool,poolbench.pooling.MaxPool2d", "data=shapes"]) == 0
    experiment(place, "pool: [custom]", "pool._target_: [theirs.Pool]")
    assert main(["plan", "sweep=x"]) == 2
    error = capsys.readouterr().err
    assert "pool._target_ is 'theirs.Pool'" in error
    assert "--trust" in error
    assert main(["plan", "sweep=x", "--trust", "theirs"]) == 0
    (place / "mine/pool").mkdir(parents=True)
    (place / "mine/pool/mine.yaml").write_text("_target_: theirs.Pool\nkernel_size: 2\n")
    experiment(place, "pool: [mine]")
    assert main(["plan", "sweep=x", "--config-dir", "mine"]) == 0
    capsys.readouterr()


TUNED = """
- match: {{pool: max}}
  set: {{{set}}}
  from: {{search: a, parameters: {{}}, trials: 1, rungs: {rungs}, sampler: random, seeds: [1000], validation: 0.1,
    accuracy: 0.5, recipe: a}}
"""


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ("data._target_: torch.hub.load, +data.repo_or_dir: .", "sets 'data._target_', which is no option"),
        ("+data.repo_or_dir: .", "sets '\\+data.repo_or_dir', which is no option"),
        ("pool._target_: theirs.Pool", "which is no option that may be searched"),
        ("pool: custom", "which is no option that may be searched"),
        ("trainer.epochs: 3", "which is no option that may be searched"),
        ("names.pool: x", "which is no option that may be searched"),
        ("hydra.searchpath: [x]", "which is no option that may be searched"),
        ("data.root: /", "which is no option that may be searched"),
        ("optimizer.lr: '${oc.env:HOME}'", "must be a plain value"),
        ("optimizer.lr: {a: 1}", "must be a plain value"),
    ],
)
def test_a_tuned_file_sets_plain_values_of_what_may_be_searched(place, value, words):
    (place / "tuned").mkdir()
    (place / "tuned/default.yaml").write_text(TUNED.format(set=value, rungs="[[1, 1]]"))
    with pytest.raises(ConfigError, match=words):
        make_plan(["optimizer=tuned", "data=shapes"])
    assert not (place / "sprung").exists()


@pytest.mark.parametrize("rungs", ["[]", "[[]]", "[3]", "[[1, 0.5]]"])
def test_a_tuned_file_has_rungs(place, rungs):
    (place / "tuned").mkdir()
    (place / "tuned/default.yaml").write_text(TUNED.format(set="optimizer.lr: 0.1", rungs=rungs))
    with pytest.raises(ConfigError, match=r"from\.rungs is .* and must list \[trials, epochs\]"):
        make_plan(["optimizer=tuned", "data=shapes"])
