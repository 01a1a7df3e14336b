"""What torch says of operations without a deterministic form is recorded, and asking for it changes nothing else."""

import json
import warnings

import pytest
import torch

from poolbench import create_model
from poolbench.cli.main import main
from poolbench.training.determinism import asked_for, operation, switches


class Shown:
    """In the place of what prints warnings."""

    def __init__(self):
        self.messages = []

    def __call__(self, message, *_, **__):
        self.messages.append(str(message))


def unpool():
    """A step with an operation that torch knows not to be deterministic, on the CPU too."""
    x = torch.zeros(1, 1, 4, 4, requires_grad=True)
    y, places = torch.nn.functional.max_pool2d(x, 2, return_indices=True)
    torch.nn.functional.max_unpool2d(y, places, 2).sum().backward()


@pytest.mark.filterwarnings("error")  # nor does a user's filter hide it or make it an error
def test_operations_are_noted_once_a_block_however_often_they_come():
    for _ in range(2):  # cells of one process
        names = set()
        with warnings.catch_warnings():
            warnings.showwarning = show = Shown()
            with asked_for(names):
                for _ in range(3):
                    unpool()
        assert names
        assert all("max_unpool" in name for name in names)
        assert len(show.messages) == len(names)


def test_other_warnings_are_passed_on_and_not_noted():
    names = set()
    with pytest.warns(UserWarning, match="something else"), asked_for(names):
        warnings.warn("something else", stacklevel=1)
    assert names == set()


def test_what_was_set_before_is_set_again():
    def state():
        now = switches()
        return now, torch.utils.deterministic.fill_uninitialized_memory, warnings.showwarning, list(warnings.filters)

    before = state()
    with asked_for(set()):
        assert switches()["deterministic_algorithms"]
        assert switches()["deterministic_warn_only"]
        assert not switches()["fill_uninitialized_memory"]
    assert state() == before
    with pytest.raises(ZeroDivisionError), asked_for(set()):
        raise ZeroDivisionError
    assert state() == before


def test_switches_are_plain_data_and_follow_the_settings():
    assert json.loads(json.dumps(switches())) == switches()
    was = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("medium" if was != "medium" else "highest")
    try:
        assert switches()["float32_matmul_precision"] != was
    finally:
        torch.set_float32_matmul_precision(was)


@pytest.mark.parametrize(
    ("message", "name"),
    [
        ("put_ does not have a deterministic implementation, but you set ...", "put_"),
        ("Memory Efficient attention defaults to a non-deterministic algorithm. To", "Memory_Efficient_attention"),
        (
            "Deterministic behavior was enabled with either ..., but this operation is not because it uses CuBLAS",
            "cublas",
        ),
        ("the loss is high", None),
    ],
)
def test_the_operation_is_read_off_the_warning(message, name):
    assert operation(message) == name


@pytest.mark.parametrize("pool", ["max", "overlapping", "stochastic", "lip", "fractional_max"])
def test_on_the_cpu_it_changes_no_bit(pool):
    def weights(names):
        torch.manual_seed(0)
        model = create_model("convnet", pool=pool, widths=(4, 6, 8), depths=(1, 1, 1))
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
        x, y = torch.randn(8, 3, 16, 16), torch.arange(8)
        for _ in range(2):
            optimizer.zero_grad()
            model.loss(x, y)[0].backward()
            optimizer.step()
        return [value.clone() for value in model.state_dict().values()]

    plain = weights(set())
    with asked_for(names := set()):
        asked = weights(names)
    assert all(torch.equal(a, b) for a, b in zip(plain, asked, strict=True))
    assert names == set()


UNPOOL = """
import torch
class Unpooled(torch.nn.Module):
    def forward(self, x):
        y, places = torch.nn.functional.max_pool2d(x, 2, return_indices=True)
        return y + torch.nn.functional.max_unpool2d(y, places, 2)[..., ::2, ::2]
"""


def test_a_record_tells_them_with_the_code_that_has_them(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "unpooled_here.py").write_text(UNPOOL)
    tiny = ["data.train_samples=40", "data.test_samples=20", "model=convnet_small", "trainer.batch_size=20"]
    tiny += ["trainer.epochs=1", "trainer.threads=1"]
    with pytest.warns(UserWarning, match="max_unpool"):
        assert main(["run", "pool=custom", "pool._target_=unpooled_here.Unpooled", *tiny]) == 0
    assert main(["run", "pool=max", *tiny]) == 0
    told = {path.parent.name.partition("-")[0]: json.loads(path.read_text()) for path in tmp_path.glob("runs/*/env*")}
    assert "max_unpooling2d_forward_out" in told["Unpooled"]["nondeterministic_operations"]
    assert told["max"]["nondeterministic_operations"] == []
    assert told["max"]["switches"]["deterministic_algorithms"] is True
    assert list(told["Unpooled"]["components"]) == ["unpooled_here"]
    assert len(told["Unpooled"]["components"]["unpooled_here"]["content"]) == 10
    assert told["max"]["components"] == {}
    assert not torch.are_deterministic_algorithms_enabled()


def test_a_later_attempt_keeps_what_an_earlier_one_noted(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    tiny = ["data.train_samples=40", "data.test_samples=20", "model=convnet_small", "trainer.epochs=1"]
    tiny += ["trainer.batch_size=20", "trainer.threads=1"]
    assert main(["run", "pool=max", *tiny]) == 0
    (folder,) = tmp_path.glob("runs/*")
    (folder / "result.json").unlink()  # as if it had been killed at the end
    for before, after in ((["some_op"], ["some_op"]), ("torn", []), (None, [])):
        told = {**json.loads((folder / "environment.json").read_text()), "nondeterministic_operations": before}
        (folder / "environment.json").write_text(json.dumps(told))
        assert main(["run", "pool=max", *tiny]) == 0
        assert json.loads((folder / "environment.json").read_text())["nondeterministic_operations"] == after
        (folder / "result.json").unlink()
