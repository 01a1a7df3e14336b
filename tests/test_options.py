"""The options of a training are declared once; what a user reads, names and checks follows."""

import dataclasses

import pytest
import yaml

from poolbench.options import DEFAULTS, OPTIONS, Trainer, names
from poolbench.records.identity import identity, run_id


def test_the_file_that_a_user_reads_shows_every_option_with_its_default(repo_root):
    shown = yaml.safe_load((repo_root / "conf/trainer/default.yaml").read_text(encoding="utf-8"))
    assert list(shown.items()) == list(DEFAULTS.items())


@pytest.mark.parametrize("name", OPTIONS)
def test_a_default_is_allowed(name):
    assert OPTIONS[name].rule.allowed(DEFAULTS[name])


def test_an_option_that_is_new_leaves_the_names_of_old_cells_alone():
    first = {"epochs", "batch_size", "label_smoothing", "precision", "channels_last", "compile"}
    assert set(names(counts="always")) == first | {"evaluation_batch_size", "train_evaluation"}


@pytest.mark.parametrize("name", OPTIONS)
def test_an_option_counts_where_it_says_that_it_does(name):
    other = next(value for value in (7, 0.5, True, False, [16], "cpu", "bf16") if _another(name, value))
    config = {"seed": 0, "trainer": dict(DEFAULTS), "data": {}, "pool": {}, "names": dict.fromkeys(PARTS, "x")}
    changed = {**config, "trainer": {**DEFAULTS, name: other}}
    counts = OPTIONS[name].counts
    assert (run_id(config) != run_id(changed)) == (counts != "never")
    assert (name in identity(config)["trainer"]) == (counts == "always")


PARTS = ("pool", "head", "model", "data")


def _another(name, value):
    return OPTIONS[name].rule.allowed(value) and value != DEFAULTS[name]


def test_options_of_a_record_become_a_trainer_and_stay_as_they_are():
    trainer = Trainer(**{**DEFAULTS, "epochs": 3, "sizes": [16, 32]})
    assert (trainer.epochs, trainer.sizes, trainer.batch_size) == (3, [16, 32], 128)
    with pytest.raises(dataclasses.FrozenInstanceError):
        trainer.epochs = 4
    with pytest.raises(TypeError, match="epoch"):
        Trainer(epoch=3)
