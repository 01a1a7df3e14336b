"""What the tests of every pool share: one table of ONNX's operators."""

import functools

import pytest


@pytest.fixture(autouse=True, scope="session")
def _one_table_of_onnx():
    """torch reads the sources of 500 operators again in every export: two thirds of the time of a small one."""
    with pytest.MonkeyPatch.context() as patch:
        try:
            from torch.onnx._internal.exporter._registration import ONNXRegistry

            patch.setattr(ONNXRegistry, "from_torchlib", staticmethod(functools.cache(ONNXRegistry.from_torchlib)))
        except (ImportError, AttributeError):
            pass  # no public name: should it move, the tests are slower and no less true
        yield
