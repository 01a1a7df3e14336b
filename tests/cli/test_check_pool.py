"""`poolbench check-pool` as a user gives it."""

import textwrap

import pytest

from poolbench.cli.main import main

QUICK = ["--only", "shape,zero_maps,homogeneity"]


@pytest.fixture
def _mine(tmp_path, monkeypatch):
    (tmp_path / "minepools.py").write_text(
        textwrap.dedent(
            """
            import torch.nn.functional as F
            from torch import nn


            class Rms(nn.Module):
                homogeneous = True

                def __init__(self, channels, kernel_size=2):
                    super().__init__()
                    self.kernel_size = kernel_size

                def forward(self, x):
                    return F.avg_pool2d(x * x, self.kernel_size).sqrt()
            """
        )
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))


@pytest.mark.usefixtures("_mine")
def test_a_pool_of_ones_own_gets_a_line_a_promise_and_the_reason_of_each_failure(capsys):
    assert main(["check-pool", "minepools.Rms", "kernel_size=4", *QUICK]) == 1
    text = capsys.readouterr().out
    assert "passed  shape" in text
    assert "failed  zero_maps" in text
    assert "NaN or infinite gradients by the input" in text
    assert "passed  homogeneity" in text
    assert text.strip().endswith("2 passed, 1 failed, 0 skipped")


def test_ours_passes_with_options(capsys):
    assert main(["check-pool", "lp", "p=3", "norm=sum", *QUICK]) == 0
    assert "3 passed" in capsys.readouterr().out


def test_a_pool_of_rectangles_is_held_to_the_same(capsys):
    checks = "shape,mirrors,stationarity,constants,bounds,flops"
    assert main(["check-pool", "max", "kernel_size=[4,3]", "stride=[2,1]", "padding=[1,1]", "--only", checks]) == 0
    assert "6 passed" in capsys.readouterr().out


def test_the_checks_can_be_listed(capsys):
    assert main(["check-pool", "max", "--list"]) == 0
    assert "memory_format" in capsys.readouterr().out


@pytest.mark.usefixtures("_mine")
@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["maxx"], "unknown pool 'maxx'. Did you mean 'max'"),
        (["minepools.Rsm"], "has no 'Rsm'. Did you mean 'Rms'"),
        (["minepools.Rms", "kernel=3"], "has no option 'kernel'. Did you mean 'kernel_size'"),
        (["lp", "p"], "options look like kernel_size=3"),
        (["lp", "p=0.5"], "p must be"),
        (["lp", "kernel_size=[3,0]"], "kernel_size must be a whole number of at least 1, or two of them"),
        (["lp", "dims=1"], "dims must be 2, got 1: the promises are about maps (N, C, H, W)"),
        (["lp", "--only", "shapes"], "unknown check 'shapes'. Did you mean 'shape'"),
    ],
)
def test_bad_input_is_named(arguments, words, capsys):
    assert main(["check-pool", *arguments]) == 2
    assert words in capsys.readouterr().err
