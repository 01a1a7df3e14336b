"""What a record says of its machine, and the fingerprint of what can change the last bits."""

import json
import os

import pytest

from poolbench import __version__
from poolbench.records.environment import available_cores, code_version, cpu_name, describe

CODE = {"commit": "abc", "dirty": False}
SETTING = {"device": "cpu", "threads": 2, "capability": "AVX2", "memory_kept": True}


def test_it_names_versions_machine_and_code():
    described = describe(**SETTING, code=CODE)
    assert described["poolbench"] == __version__
    assert described["commit"] == "abc"
    assert described["dirty"] is False
    for key in ("python", "torch", "torchvision", "numpy", "hydra-core", "platform", "cpu", "created"):
        assert isinstance(described[key], str), key
        assert described[key], key
    assert described["cpu"] == cpu_name()
    assert described["cores"] == available_cores() >= 1
    assert json.loads(json.dumps(described, allow_nan=False)) == described


@pytest.mark.parametrize(("key", "other"), [("device", "GPU"), ("threads", 1), ("capability", "AVX512")])
def test_what_can_change_bits_changes_the_fingerprint(key, other):
    assert (
        describe(**SETTING, code=CODE)["fingerprint"] != describe(**{**SETTING, key: other}, code=CODE)["fingerprint"]
    )


def test_code_and_time_do_not_change_the_fingerprint():
    first = describe(**SETTING, code=CODE)
    second = describe(**SETTING, code={"commit": "def", "dirty": True})
    assert first["fingerprint"] == second["fingerprint"]
    assert len(first["fingerprint"]) == 10


def test_the_code_is_known_in_a_checkout(repo_root):
    code = code_version()
    if (repo_root / ".git").exists() and code["commit"] is not None:
        assert len(code["commit"]) == 40
        assert isinstance(code["dirty"], bool)
    else:
        assert code == {"commit": None, "dirty": None}


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="cores cannot be taken away here")
def test_only_cores_that_this_process_may_use_are_counted():
    all_cores = os.sched_getaffinity(0)
    try:
        os.sched_setaffinity(0, {min(all_cores)})
        assert available_cores() == 1
    finally:
        os.sched_setaffinity(0, all_cores)
