"""What all tests share: one thread, fixed random numbers, few hypothesis examples."""

import functools
import gc
import os
from pathlib import Path

import pytest
import torch
from hypothesis import register_random, settings

from tests.width import ALL

# `make test` draws the same examples in every run, so that a change fails for what it does. `make test-all` draws new
# ones and prints the decorator, @reproduce_failure, that repeats a failure.
settings.register_profile("quick", deadline=None, max_examples=15, derandomize=True)
settings.register_profile("all", deadline=None, max_examples=25, derandomize=False, print_blob=True)
settings.load_profile("all" if ALL else "quick")


class TorchNumbers:
    """Torch's global stream as hypothesis manages those of ``random`` and of numpy.

    Every example starts it anew, at 0 or as ``st.random_module()`` draws, and it is put back afterwards. Without this
    an example would go on where the one before ended, and a failure could not be repeated.
    """

    seed = staticmethod(torch.default_generator.manual_seed)
    getstate = staticmethod(torch.get_rng_state)
    setstate = staticmethod(torch.set_rng_state)


TORCH_NUMBERS = TorchNumbers()  # hypothesis holds but a weak reference
register_random(TORCH_NUMBERS)


# Files whose tests share what takes long to make, as a trained sweep: one worker has all of them.
SHARING = {
    f"tests/{name}.py"
    for name in (
        "test_configuration",
        "test_torture",
        "test_resume",
        "test_probes",
        "test_trained",
        "api/test_api",
        "cli/test_cli",
        "cli/test_reproduce",
        "cli/test_rerun",
        "cli/test_tune",
        "cli/test_race",
        "sweep/test_launch",
        "sweep/test_workers",
    )
}
ON_PLANS = ("tests/test_history.py", "tests/test_results.py")  # of published experiments, for one worker as well


def pytest_collection_modifyitems(config, items):
    """Leave what is marked ``wide`` to ``make test-all``; pytest says how many."""
    wide = [] if ALL else [item for item in items if item.get_closest_marker("wide")]
    if wide:
        config.hook.pytest_deselected(items=wide)
        items[:] = [item for item in items if item not in set(wide)]


def pytest_collection_finish():
    """What is imported by now stays: the collector of garbage need not look through it again and again."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(100_000, 20, 100)


def pytest_xdist_auto_num_workers():
    """Two more than there are processors: tests of sweeps and of kills wait for other processes half of their time."""
    return 2 + (len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1)


def pytest_xdist_make_scheduler(config, log):
    """For ``--dist loadscope``: what a worker gets at once is a test with all its parameters, or a file that shares.
    The largest come first."""
    from xdist.scheduler import LoadScopeScheduling

    class Sharing(LoadScopeScheduling):
        def _split_scope(self, nodeid):
            file = nodeid.partition("::")[0]
            if file in ON_PLANS:
                return "plans"
            return file if file in SHARING else nodeid.partition("[")[0]

    return Sharing(config, log) if config.getvalue("dist") == "loadscope" else None


@pytest.fixture(autouse=True, scope="session")
def _cache(tmp_path_factory):
    """Data is prepared once for all tests, and nothing is left in the user's own cache. Processes that are forked keep
    the environment of the first one that was started, so it is one for all."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("POOLBENCH_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(autouse=True)
def _alike_everywhere():
    """The maps here are tiny: more threads would only wait for each other."""
    torch.set_num_threads(1)
    torch.default_generator.manual_seed(0)


@pytest.fixture(autouse=True, scope="session")
def _onnx_operators_read_once():
    """torch reads the sources of its 500 operators of ONNX anew for every export, half of what a small one takes."""
    try:
        from torch.onnx._internal.exporter._registration import ONNXRegistry

        read = ONNXRegistry.from_torchlib
    except (ImportError, AttributeError):  # it is torch's own affair, and may be gone in another version
        yield
        return
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ONNXRegistry, "from_torchlib", staticmethod(functools.cache(read)))
        yield


@pytest.fixture(scope="session")
def repo_root():
    """The folder that holds ``poolbench/``, ``conf/`` and ``tests/``."""
    return Path(__file__).resolve().parent.parent
