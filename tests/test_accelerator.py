"""Which device is taken, and what is told of one that is not there or lacks something; on any machine."""

import json

import pytest
import torch

from poolbench import accelerator
from poolbench.accelerator import KINDS, choose, count, doubled, here, missing, name, undrawn, widest
from poolbench.cli.main import main
from poolbench.options import OPTIONS
from poolbench.testing.devices import imagined
from poolbench.training.process import check_precision

CPU = torch.device("cpu")
# As torch 2.14 says them.
ON_MPS = (
    "The operator 'aten::_cummax_helper' is not currently implemented for the MPS device. If you want this op to be "
    "considered for addition please comment on https://github.com/pytorch/pytorch/issues/141287"
)
ON_XPU = (
    "The operator 'aten::mm.dtype' is not currently implemented for the XPU device. Please open a feature on "
    "https://github.com/intel/torch-xpu-ops/issues."
)
ON_CUDA = "Could not run 'torchvision::nms' with arguments from the 'CUDA' backend. This could be because ..."


def test_auto_is_an_accelerator_that_is_there_and_else_the_cpu():
    assert choose("auto") == (here() or CPU)
    assert choose("cpu") == CPU
    assert name(CPU) == "cpu"
    assert here() is None or here().index == 0 < count(here().type)


@pytest.mark.parametrize("kind", KINDS)
def test_a_named_device_has_its_number(kind):
    """Else torch does not take it where one of several is chosen."""
    if not count(kind):
        pytest.skip(f"there is no {kind}")
    assert choose(kind) == torch.device(kind, 0)


@pytest.mark.parametrize("beyond", [0, 1, 7])
@pytest.mark.parametrize("kind", ["cuda", "xpu"])
def test_a_device_that_is_not_there_is_named_with_what_is(kind, beyond):
    device = f"{kind}:{count(kind) + beyond}"
    with pytest.raises(
        ValueError, match=rf"trainer\.device={device}: there are {count(kind)} {kind} devices here"
    ) as got:
        choose(device)
    there = [f"{one}:{number}" for one in KINDS for number in range(count(one))]
    assert all(word in str(got.value) for word in ("auto", "cpu", *there))


@pytest.mark.parametrize("kind", KINDS)
def test_a_kind_that_is_not_there_is_refused(kind):
    if count(kind):
        pytest.skip(f"there is {kind}")
    with pytest.raises(ValueError, match=rf"--device={kind}: there are 0 {kind} devices here; use auto"):
        choose(kind, "--device")


@pytest.mark.parametrize("device", ["gpu", "mps:", "xpu:x", "npu", "", "cuda:-1"])
def test_no_device_at_all_is_refused_with_what_is_allowed(device):
    assert not OPTIONS["device"].rule.allowed(device)
    with pytest.raises(ValueError, match=r"trainer\.device must be auto, cpu, cuda, mps or xpu, .* got"):
        choose(device)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (ON_MPS, ["mps", "aten::_cummax_helper", "PYTORCH_ENABLE_MPS_FALLBACK=1", "trainer.device=cpu"]),
        (ON_XPU, ["xpu", "aten::mm.dtype", "PYTORCH_ENABLE_XPU_FALLBACK=1", "trainer.device=cpu"]),
        (ON_CUDA, ["cuda", "torchvision::nms", "use trainer.device=cpu"]),
    ],
)
def test_a_missing_operator_is_named_with_what_helps(text, words):
    told = missing(NotImplementedError(text))
    assert all(word in told for word in words)
    assert "\n" not in told
    assert missing(ValueError(text)) is None


def test_float64_that_a_device_lacks_is_told_and_other_errors_are_not_ours():
    mps = "Cannot convert a MPS Tensor to float64 dtype as the MPS framework doesn't support float64."
    assert "float64" in missing(TypeError(mps))
    assert "float64" in missing(RuntimeError("Required aspect fp64 is not supported on the device"))
    for error in (NotImplementedError(), NotImplementedError("my pool"), TypeError("x"), RuntimeError("out of memory")):
        assert missing(error) is None


def test_float64_is_where_a_device_has_it():
    x = torch.rand(3)
    assert torch.equal(doubled(x), x.double())
    assert widest(CPU) == widest(torch.device("cuda")) == torch.float64
    assert widest(torch.device("mps")) == torch.float32
    for kind in ("cuda", "xpu"):
        with imagined(kind), torch.no_grad():
            wide = doubled(torch.ones(2, device=kind))
            assert wide.dtype == torch.float64
            assert wide.device.type == kind


@pytest.mark.parametrize("device", ["cpu", *KINDS])
def test_what_is_drawn_inside_leaves_no_trace(device):
    """Also of a device that is only imagined."""
    torch.manual_seed(3)
    expected = torch.rand(2)
    torch.manual_seed(3)
    with undrawn(torch.device(device)):
        torch.manual_seed(4)
        torch.rand(5)
    assert torch.equal(torch.rand(2), expected)


def test_cells_on_the_cpu_share_no_accelerator_and_others_share_those_that_are_here():
    assert accelerator.shared({"cpu"})[1] == 0
    kind, number = accelerator.shared({"cpu", "auto"})
    assert (kind, number) == (("", 0) if here() is None else (here().type, count(here().type)))


def test_the_cpu_waits_for_nothing_and_counts_no_memory_of_an_accelerator():
    accelerator.synchronize("cpu")
    accelerator.select(CPU)
    assert accelerator.peak_memory(CPU) is None
    assert accelerator.driver(CPU) is None
    assert not accelerator.counts_memory("cpu")
    assert not accelerator.counts_memory("mps")
    for precision in ("fp32", "bf16", "fp16"):
        assert accelerator.lacks(precision, torch.device("cuda")) is None


LACKS = """
from torch import nn
class Lacks(nn.AvgPool2d):
    def __init__(self, channels):
        super().__init__(2)
    def forward(self, x):
        if self.training:
            raise NotImplementedError("The operator 'aten::frob' is not currently implemented for the MPS device.")
        return super().forward(x)
"""


def test_a_cell_whose_device_lacks_an_operator_says_so_and_is_not_repeated(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "lacks_here.py").write_text(LACKS)
    tiny = ["data.train_samples=40", "data.test_samples=20", "model=convnet_small", "trainer.batch_size=20"]
    tiny += ["trainer.epochs=1", "trainer.threads=1"]
    assert main(["run", "pool=custom", "pool._target_=lacks_here.Lacks", *tiny]) == 1
    (status,) = (json.loads(path.read_text()) for path in tmp_path.glob("runs/*/status.json"))
    assert status["state"] == "failed"
    assert status["lasting"]
    assert "mps has no operator aten::frob" in status["error"]
    assert "PYTORCH_ENABLE_MPS_FALLBACK=1" in status["error"]


class Properties:
    """What torch says of an Arc A770."""

    has_fp64, driver_version = False, "1.6.33"


@pytest.fixture
def machine(monkeypatch):
    """A machine as torch would tell of it, with so many devices of a kind."""

    def have(kind, number):
        for one in KINDS:
            monkeypatch.setattr(f"torch.{one}.device_count", lambda one=one: number if one == kind else 0)
        found = torch.device(kind)
        monkeypatch.setattr("torch.accelerator.current_accelerator", lambda check_available=False: found)
        monkeypatch.setattr("torch.xpu.get_device_properties", lambda device=None: Properties())
        monkeypatch.setattr("torch.mps.driver_allocated_memory", lambda: 7)
        monkeypatch.setattr("torch.backends.mps.get_name", lambda: "Apple M3")
        monkeypatch.setattr("torch.backends.mps.is_macos_or_newer", lambda major, minor: major < 14)

    return have


def test_of_several_devices_the_named_one_is_taken_with_its_number(machine):
    machine("cuda", 2)
    assert choose("auto") == choose("cuda") == torch.device("cuda", 0)
    assert choose("cuda:1") == torch.device("cuda", 1)
    with pytest.raises(ValueError, match="there are 2 cuda devices here; use auto, cpu, cuda:0 or cuda:1"):
        choose("cuda:2")
    with pytest.raises(ValueError, match="there are 0 mps devices here; use auto, cpu, cuda:0 or cuda:1"):
        choose("mps")
    assert accelerator.shared({"auto"}) == accelerator.shared({"cuda", "cpu"}) == ("cuda", 2)
    assert accelerator.shared({"cuda:1"}) == ("cuda", 1)
    assert accelerator.shared({"cpu"}) == ("cuda", 0)


def test_what_a_gpu_of_apples_lacks_is_known(machine):
    machine("mps", 1)
    device = choose("auto")
    assert device == choose("mps:0") == torch.device("mps", 0)
    assert name(device) == "Apple M3"
    assert accelerator.driver(device).startswith("macOS")
    assert accelerator.peak_memory(device) == 7
    check_precision("fp32", device)
    check_precision("fp16", device)
    with pytest.raises(ValueError, match=r"trainer\.precision=bf16: mps has bfloat16 from macOS 14 on; use fp32"):
        check_precision("bf16", device)


def test_an_intel_gpu_without_float64_scales_no_loss(machine):
    machine("xpu", 1)
    device = choose("auto")
    assert device == torch.device("xpu", 0)
    assert accelerator.driver(device) == "1.6.33"
    assert widest(device) == torch.float32
    check_precision("bf16", device)
    with pytest.raises(ValueError, match=r"trainer\.precision=fp16: this xpu device has no float64"):
        check_precision("fp16", device)
