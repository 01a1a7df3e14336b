"""What all tests share: one thread, fixed random numbers, few hypothesis examples."""

import os
from pathlib import Path

import pytest
import torch
from hypothesis import settings

# CI draws the same examples in every run, so that a change fails for what it does; elsewhere new ones are explored.
settings.register_profile("poolbench", deadline=None, max_examples=25, derandomize=bool(os.environ.get("CI")))
settings.load_profile("poolbench")


@pytest.fixture(autouse=True)
def _alike_everywhere():
    """The maps here are tiny: more threads would only wait for each other."""
    torch.set_num_threads(1)
    torch.manual_seed(0)


@pytest.fixture(scope="session")
def repo_root():
    """The folder that holds ``poolbench/``, ``conf/`` and ``tests/``."""
    return Path(__file__).resolve().parent.parent
