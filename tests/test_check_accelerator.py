"""The script that tries everything on an accelerator tells what is wrong, tried on the CPU."""

import sys
from pathlib import Path

import pytest
import torch
from torch import nn

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "scripts"))
import check_accelerator
from check_accelerator import Finding, compared, page

CPU = torch.device("cpu")
FEW = ["--device", "cpu", "--quick", "--names", "max,stochastic,gem,convnet"]


class Doubtful(nn.Module):
    """A net with a flaw."""

    def __init__(self, flaw=""):
        super().__init__()
        self.flaw = flaw
        self.weight = nn.Parameter(torch.ones(1))

    def __deepcopy__(self, _):
        return Doubtful("far" if self.flaw == "elsewhere" else self.flaw)

    def forward(self, x):
        y = self.weight * x
        if self.flaw == "lacks":
            raise NotImplementedError("The operator 'aten::frob' is not currently implemented for the MPS device.")
        if self.flaw == "draws":
            return y * torch.rand(1)
        return y / 0 if self.flaw == "infinite" else 1.01 * y if self.flaw == "far" else y


def test_pools_heads_and_models_are_tried_and_counted(capsys):
    assert check_accelerator.main([*FEW, "--parts", "operators,models"]) == 0
    said = capsys.readouterr().out
    assert "4 things tried" in said
    assert "| operators | 3 | 0 | 0.0e+00 |" in said
    assert "| models | 1 | 0 | 0.0e+00 |" in said
    assert "Failures" not in said


def test_what_is_far_from_the_cpu_or_not_finite_is_told():
    x = torch.rand(2, 3, 4, 4)
    assert compared(Doubtful(), x, CPU) == 0
    assert compared(Doubtful("draws"), x, CPU) is None
    with pytest.raises(AssertionError, match=r"its output differs from the CPU's by 0.01"):
        compared(Doubtful("elsewhere"), x, CPU)
    with pytest.raises(AssertionError, match="its output is not finite"):
        compared(Doubtful("infinite"), x, CPU)


def test_an_operator_that_torch_lacks_is_named_on_the_page():
    (found,) = check_accelerator._both_formats(
        "models", "model mine", lambda: Doubtful("lacks"), torch.rand(1, 3, 4, 4), CPU, quick=True
    )
    text = "\n".join(page(CPU, [found, Finding("models", "other", 2e-5)], [], 60))
    assert "| models | 2 | 1 | 2.0e-05 |" in text
    assert "- model mine: mps has no operator aten::frob" in text
    assert "PYTORCH_ENABLE_MPS_FALLBACK=1" in text


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--parts", "operators,all"], "--parts must be of operators, models, sweep, bench, got all"),
        (["--names", "maxx"], "--names must be pools, heads or models, got maxx"),
        (["--device", "gpu"], "--device must be auto, cpu"),
    ],
)
def test_bad_input_is_named(arguments, words, capsys):
    with pytest.raises(SystemExit) as ended:
        check_accelerator.main(arguments)
    assert ended.value.code == 2
    assert words in capsys.readouterr().err


def test_a_sweep_that_cannot_be_trained_is_told(tmp_path, monkeypatch):
    monkeypatch.setattr(check_accelerator, "SWEEP", ("data=shapes", "pool=maxx"))
    (found,) = check_accelerator.sweep(CPU, tmp_path)
    assert "exit code 2" in found.error
    assert "maxx" in found.error


@pytest.mark.wide
def test_a_sweep_is_killed_and_resumed_and_pools_are_timed(capsys):
    assert check_accelerator.main([*FEW, "--parts", "sweep,bench"]) == 0
    said = capsys.readouterr().out
    assert "| sweep | 2 | 0 | 0.0e+00 |" in said
    assert "| bench | 2 | 0 | - |" in said
    assert "| stochastic |" in said
