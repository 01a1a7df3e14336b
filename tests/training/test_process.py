"""Setting a process up changes its speed and never its results."""

import os
import subprocess
import sys

import pytest
import torch

from poolbench.training.process import check_precision, peak_memory

# Trains a little, once with freed memory kept and once without, each in a process of its own that is forked before
# torch has computed anything; prints for each whether it was kept, and a digest of all weights.
TWICE = """
import hashlib, os, sys, torch
from poolbench import create_model
from poolbench.training.process import set_up
from poolbench.training.optimizers import muon

def digest(keep):
    threads, kept = set_up(torch.device("cpu"), 1, keep)
    assert threads == torch.get_num_threads() == 1
    model = create_model("convnet", "lp", widths=(8, 16), depths=(1, 1), input_size=(16, 16))
    model = model.to(memory_format=torch.channels_last)
    optimizers = muon(model)
    torch.manual_seed(0)
    for _ in range(3):
        x = torch.randn(32, 3, 16, 16).contiguous(memory_format=torch.channels_last)
        torch.nn.functional.cross_entropy(model(x), torch.randint(10, (32,))).backward()
        optimizers.gather()
        for optimizer in optimizers.optimizers:
            optimizer.step()
        optimizers.zero_grad()
    state = b"".join(tensor.numpy().tobytes() for tensor in model.state_dict().values())
    return kept, hashlib.sha256(state).hexdigest()

child = os.fork()
os.write(1, "{} {}\\n".format(*digest(keep=child == 0)).encode())  # at once: both write to one pipe
if child:
    os.waitpid(child, 0)
"""


def test_a_precision_that_the_device_lacks_is_refused():
    check_precision("fp32", torch.device("cpu"))
    for precision in ("fp32", "bf16", "fp16"):
        check_precision(precision, torch.device("cuda"))
    with pytest.raises(ValueError, match=r"trainer\.precision=fp16 is for accelerators"):
        check_precision("fp16", torch.device("cpu"))
    has_it = any(torch.cpu.get_capabilities().get(name) for name in ("avx512_bf16", "amx_bf16", "bf16"))
    if has_it:
        check_precision("bf16", torch.device("cpu"))
    else:
        with pytest.raises(ValueError, match=r"trainer\.precision=bf16"):
            check_precision("bf16", torch.device("cpu"))


def test_peak_memory_is_this_processes_and_in_bytes():
    peak = peak_memory(torch.device("cpu"))
    if peak is not None:
        assert 50e6 < peak < 1e12


@pytest.mark.skipif(not hasattr(os, "fork") or sys.platform == "darwin", reason="the processes are forked")
def test_keeping_freed_memory_changes_no_bit():
    done = subprocess.run([sys.executable, "-c", TWICE], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    answers = dict(line.split() for line in done.stdout.splitlines())
    assert len(answers) <= 2
    assert len(set(answers.values())) == 1
    assert len(done.stdout.splitlines()) == 2
    assert "False" in answers
