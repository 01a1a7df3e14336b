"""`poolbench list`: everything by name, and what heads and models cost and do."""

import re

import pytest

from poolbench.cli.list import WHAT, _cost, _short, model_files
from poolbench.cli.main import main as poolbench
from poolbench.configuration import composer, config_dir
from poolbench.heads import HEADS
from poolbench.models import MODELS


def entries(text):
    """Name -> the lines told of it."""
    parts = re.split(r"^(\w+)\s", text, flags=re.M)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def test_all_kinds_are_listed_without_numbers(capsys):
    assert poolbench(["list"]) == 0
    text = capsys.readouterr().out
    assert [line[:-1] for line in text.splitlines() if line.endswith(":") and line[0] != " "] == list(WHAT)
    assert "MFLOPs" not in text
    assert all(len(line) < 80 for line in text.splitlines())


def test_models_and_their_files_are_told_with_their_cost(capsys):
    assert poolbench(["list", "models"]) == 0
    told = entries(capsys.readouterr().out.partition("\n\n")[2])
    files = {path.stem for path in (config_dir() / "model").glob("*.yaml")}
    assert told.keys() == {*MODELS.names(), *files}
    assert "0.27 M parameters, 81 MFLOPs" in told["resnet"]
    assert "0.24 M parameters, 40 MFLOPs" in told["convnet"]
    assert "0.06 M parameters, 10 MFLOPs" in told["convnet_small"]
    assert all("MFLOPs" in text for name, text in told.items() if name != "custom"), told


def test_files_of_models_are_read_as_hydra_reads_them():
    files = model_files()
    with composer() as configs:
        for name in ("convnet_small", "resnet", "custom", *(choice for choice in files if choice.endswith("_small"))):
            assert files[name] == configs.block("model", name)


def test_heads_are_told_with_what_they_take_and_do(capsys):
    assert poolbench(["list", "heads"]) == 0
    told = entries(capsys.readouterr().out)
    assert told.keys() == {*HEADS.names(), "custom"}
    assert "any size of map" in told["global_average"]
    assert "one size of map" in told["flatten"]
    assert "a loss of its own" not in told["flatten"]
    for name in HEADS.table:
        assert ("fitted once" in told[name]) is hasattr(HEADS.find(name), "fit")
    assert "a loss of its own" in told["capsule"]
    assert "fitted once the trunk is trained" in told["mop"]


def test_a_model_that_does_not_take_the_image_says_why(monkeypatch):
    assert _cost("convnet", {}) == "0.24 M parameters, 40 MFLOPs"
    monkeypatch.setattr("poolbench.cli.list.SIZE", (4, 4))
    assert _cost("convnet", {}).startswith("no cost: images of 4x4 do not fit")


@pytest.mark.parametrize(
    ("value", "digits", "words"),
    [(0.269722, 2, "0.27"), (81.1, 0, "81"), (29703.6, 0, "29,704"), (0.004, 2, "0.004"), (0.4, 0, "0.4")],
)
def test_numbers_are_told_with_at_least_one_digit(value, digits, words):
    assert _short(value, digits) == words
