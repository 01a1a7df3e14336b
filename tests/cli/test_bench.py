"""`poolbench bench pools` as a user gives it."""

import json

import pytest

from poolbench.cli.main import main

QUICK = ["--shape", "2,4,8,8", "--rounds", "1"]


def test_it_prints_a_row_a_pool_and_writes_what_it_measured(tmp_path, capsys):
    path = tmp_path / "speed.json"
    assert main(["bench", "pools", "max", "soft", *QUICK, "--json", str(path)]) == 0
    text = capsys.readouterr().out
    assert [line.split()[0] for line in text.strip().splitlines()[-2:]] == ["max", "soft"]
    assert max(map(len, text.splitlines())) <= 90
    content = json.loads(path.read_text())
    assert [row["pool"] for row in content["rows"]] == ["max", "soft"]
    assert content["rows"][0]["shape"] == [2, 4, 8, 8]
    assert content["rows"][0]["flops"] == 4 * 4 * 4 * 3
    assert content["machine"]["torch"]


def test_a_pool_of_ones_own_is_timed_by_its_path(capsys):
    assert main(["bench", "pools", "poolbench.pooling.AveragePool2d", *QUICK]) == 0
    assert "AveragePool2d" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["maxx"], "unknown pool 'maxx'. Did you mean 'max'"),
        (["max", "--shape", "2,4,8"], "--shape must be four whole numbers"),
        (["max", "--shape", "0,4,8,8"], "--shape must be four whole numbers"),
        (["max", "--rounds", "0"], "--rounds and --threads must be at least 1"),
        (["max", "--threads", "0"], "--rounds and --threads must be at least 1"),
        (["max", "--device", "cuda"], "GPU"),
    ],
)
def test_bad_input_is_named_before_anything_is_timed(arguments, words, capsys):
    if "cuda" in arguments:
        import torch

        if torch.cuda.is_available():
            pytest.skip("there is a GPU")
    assert main(["bench", "pools", *arguments]) == 2
    assert words in capsys.readouterr().err
