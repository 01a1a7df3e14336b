"""What a record says of its machine, and the fingerprint of what can change the last bits."""

import json
import os
import platform

import pytest

from poolbench import __version__
from poolbench.records import environment
from poolbench.records.collect import write_archive
from poolbench.records.environment import available_cores, code_version, cpu_name, describe, memory_bytes
from poolbench.records.flags import ARITHMETIC, OTHER, flags
from poolbench.records.origins import origins
from poolbench.records.read import read_record
from tests.report.synthetic import make_config, write_cell

CODE = {"commit": "abc", "dirty": False}
SETTING = {"device": "cpu", "threads": 2, "capability": "AVX2", "memory_kept": True}


@pytest.fixture(autouse=True)
def _without_flags(monkeypatch):
    for name in (*ARITHMETIC, *OTHER, "LD_PRELOAD", "DYLD_INSERT_LIBRARIES"):
        monkeypatch.delenv(name, raising=False)


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
    assert described["memory_bytes"] == memory_bytes()
    assert described["flags"] == described["switches"] == described["components"] == {}
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


def test_the_fingerprint_is_the_one_that_records_had_before_flags_were_recorded():
    assert describe(**SETTING, code=CODE)["fingerprint"] == environment.digest(
        {"cpu": cpu_name(), "torch": environment._version("torch"), **SETTING}
    )


@pytest.mark.parametrize(
    ("name", "value", "changes"),
    [
        ("ONEDNN_MAX_CPU_ISA", "AVX2", True),
        ("MKL_CBWR", "COMPATIBLE", True),
        ("NVIDIA_TF32_OVERRIDE", "1", True),
        ("ATEN_CPU_CAPABILITY", "default", False),  # capability says what came of it
        ("CUBLAS_WORKSPACE_CONFIG", ":4096:8", False),  # poolbench sets it
        ("OMP_NUM_THREADS", "4", False),  # threads says what came of it
        ("PYTHONHASHSEED", "0", False),
    ],
)
def test_flags_are_recorded_and_count_where_they_choose_other_arithmetic(name, value, changes, monkeypatch):
    before = describe(**SETTING, code=CODE)
    monkeypatch.setenv(name, value)
    after = describe(**SETTING, code=CODE)
    assert after["flags"] == {name: value}
    assert (after["fingerprint"] != before["fingerprint"]) == changes


def test_nothing_but_known_flags_and_no_value_that_may_be_a_place_or_a_secret_is_recorded():
    environ = {
        "OMP_NUM_THREADS": "2",
        "GLIBC_TUNABLES": "glibc.cpu.hwcaps=-AVX2_Usable",
        "PYTORCH_CUDA_ALLOC_CONF": "expandable_segments:True,max_split_size_mb:64",
        "OMP_PLACES": "{0:4}:4:4",
        "KMP_AFFINITY": "/home/ada/affinity",
        "MKL_CBWR": "\x1b[2J",
        "OMP_SCHEDULE": "x" * 500,
        "LD_PRELOAD": "/home/ada/lib/libjemalloc.so.2:/opt/ada-secret.so /usr/lib/libtcmalloc_minimal.so.4",
        "HOME": "/home/ada",
        "TORCH_HOME": "/home/ada/torch",
        "WANDB_API_KEY": "ada",
        "MKL_SECRET": "ada",
    }
    assert flags(environ) == {
        "GLIBC_TUNABLES": "glibc.cpu.hwcaps=-AVX2_Usable",
        "KMP_AFFINITY": "(set)",
        "LD_PRELOAD": "(other),libjemalloc.so.2,libtcmalloc_minimal.so.4",
        "MKL_CBWR": "(set)",
        "OMP_NUM_THREADS": "2",
        "OMP_PLACES": "{0:4}:4:4",
        "OMP_SCHEDULE": "(set)",
        "PYTORCH_CUDA_ALLOC_CONF": "expandable_segments:True,max_split_size_mb:64",
    }


def test_components_of_ones_own_are_told_by_their_version_or_their_content(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    package = tmp_path / "ada_pools"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "first.py").write_text("class First: ...")
    (tmp_path / "ada_single.py").write_text("class Single: ...")
    config = {
        "pool": [{"_target_": "ada_pools.first.First"}, {"_target_": "poolbench.pooling.MaxPool2d"}],
        "head": {"_target_": "ada_single.Single", "inner": {"_target_": "torch.nn.Identity"}},
        "model": {"_target_": "hypothesis.strategies.text"},
        "data": {"_target_": "nowhere.at.All"},
    }
    found = origins(config)
    assert set(found) == {"ada_pools", "ada_single", "hypothesis", "nowhere"}
    assert found["nowhere"] == {"distribution": None, "version": None, "content": None}
    assert found["hypothesis"]["distribution"] == "hypothesis"
    assert found["hypothesis"]["version"].count(".") == 2
    assert found["hypothesis"]["content"] is None
    assert len(found["ada_single"]["content"]) == len(found["ada_pools"]["content"]) == 10
    assert origins(config) == found
    (package / "second.py").write_text("LATER = 1")  # which the first may import
    assert origins(config)["ada_pools"] != found["ada_pools"]
    assert origins(config)["ada_single"] == found["ada_single"]


def test_an_archive_with_all_of_it_names_no_place(tmp_path, monkeypatch):
    monkeypatch.setenv("LD_PRELOAD", "/home/ada/libjemalloc.so")
    monkeypatch.setenv("KMP_AFFINITY", "/home/ada/affinity")
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "single.py").write_text("class Single: ...")
    config = make_config("max", head={"_target_": "single.Single"})
    described = describe(**SETTING, code=CODE, config=config, switches={"cudnn": None})
    record = read_record(write_cell(tmp_path / "runs", config, environment=described))
    write_archive([record], tmp_path / "records.jsonl")
    text = (tmp_path / "records.jsonl").read_text()
    assert json.loads(text)["environment"]["components"]["single"]["content"]
    for place in ("/home", str(tmp_path), platform.node()):
        assert place not in text, place


def test_gpus_are_named_without_waking_them_up(tmp_path, monkeypatch):
    monkeypatch.setattr(environment, "_NVIDIA", tmp_path)
    assert environment.gpu_names() == []
    assert environment.gpu_driver() is None
    for number in (0, 1):
        (tmp_path / f"gpus/0000:0{number}:00.0").mkdir(parents=True)
        text = "Model: \t\t NVIDIA H100 80GB HBM3\nIRQ:   \t\t 18\nGPU UUID: \t GPU-1234\n"
        (tmp_path / f"gpus/0000:0{number}:00.0/information").write_text(text)
    version = "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  580.82.07  Release Build  (root@box)  Wed\n"
    (tmp_path / "version").write_text(version + "GCC version: gcc version 12.2.0\n")
    assert environment.gpu_names() == ["NVIDIA H100 80GB HBM3"] * 2
    assert environment.gpu_driver() == "580.82.07"


def test_a_driver_that_is_not_nvidias_is_recorded_and_counts_in_the_fingerprint():
    """Kernels of mps are a part of macOS; records of CPUs and of CUDA say what they said."""
    plain, other, older = (
        describe(**SETTING, code=CODE, driver=driver) for driver in (None, "macOS 26.1", "macOS 15.5")
    )
    assert (other["gpus"], other["gpu_driver"]) == (["cpu"], "macOS 26.1")
    assert (plain["gpus"], plain["gpu_driver"]) == (environment.gpu_names(), environment.gpu_driver())
    assert len({one["fingerprint"] for one in (plain, other, older)}) == 3
    assert plain["fingerprint"] == describe(**SETTING, code=CODE)["fingerprint"]
