"""The public contract finds what it is there for: each check is shown a pool that breaks it, and only says so then."""

import subprocess
import sys

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from poolbench import create_pool
from poolbench.pooling.base import Pool
from poolbench.testing import CHECKS, check_pool, promised


class Halving(nn.Module):
    """Somebody's pool, right in all that it says; the broken ones derive from it."""

    def __init__(self, channels):
        super().__init__()
        self.channels = channels

    def forward(self, x):
        return F.avg_pool2d(x, 2)


class FewerChannels(Halving):
    def forward(self, x):
        return super().forward(x)[:, 1:]


class WrongSize(Halving):
    def output_size(self, size):
        return size[0] // 2, size[1] // 2 + 1


class WrongRatio(Halving):
    ratio = 4.0


class SeesTheBatch(Halving):
    def forward(self, x):
        return super().forward(x - x.mean(0, keepdim=True))


class ForgetsTheFormat(Halving):
    def forward(self, x):
        return super().forward(x).contiguous()


class CutsOff(Halving):
    def forward(self, x):
        return F.avg_pool2d(x, 2, ceil_mode=True)[..., : x.shape[2] // 2, : x.shape[3] // 2]


class WorksInPlace(Halving):
    def forward(self, x):
        return super().forward(x.relu_() if not x.requires_grad else x.relu())


class GivesAView(Halving):
    def forward(self, x):
        return x[..., ::2, ::2]


class _WrongSlope(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return F.avg_pool2d(x, 2)

    @staticmethod
    def backward(ctx, gradient):
        return F.interpolate(gradient, scale_factor=2)  # not divided by 4


class WrongSlope(Halving):
    def forward(self, x):
        return _WrongSlope.apply(x)


class NaNAtZero(Halving):
    def forward(self, x):
        return super().forward(x * x).sqrt()


class InfiniteSlopeAtZero(Halving):
    def forward(self, x):
        return super().forward(x).sqrt()


class Overflows(Halving):
    def forward(self, x):
        weights = x.exp()
        return super().forward(weights * x) / super().forward(weights)


class RemadeInEveryPass(Halving):
    def forward(self, x):
        # As in a published benchmark of fifteen pools: nothing that the optimizer holds is ever used.
        return super().forward(x) * nn.Parameter(torch.rand(1, device=x.device))


class Unused(Halving):
    def __init__(self, channels):
        super().__init__(channels)
        self.weight = nn.Parameter(torch.ones(channels))


class MadeLate(Halving):
    def forward(self, x):
        if not hasattr(self, "weight"):
            self.weight = nn.Parameter(torch.ones(1))
        return super().forward(x) * self.weight


class SilentlyRandom(Halving):
    random = False

    def forward(self, x):
        return super().forward(F.dropout(x, training=self.training))


class OtherRandomNumbers(Halving):
    def forward(self, x):
        import random

        return super().forward(x) * (1 + random.random())


class IgnoresItsGenerator(Halving):
    random = True
    generator = None

    def forward(self, x):
        return super().forward(F.dropout(x, training=self.training))


class RandomInEvaluation(Halving):
    def forward(self, x):
        return super().forward(F.dropout(x, training=True))


class CountsInEvaluation(Halving):
    def __init__(self, channels):
        super().__init__(channels)
        self.register_buffer("passes", torch.zeros(()))

    def forward(self, x):
        self.passes += 1
        return super().forward(x)


class ForgetsWhatIsLoaded(Halving):
    def __init__(self, channels):
        super().__init__(channels)
        self.weight = nn.Parameter(torch.ones(1, channels, 1, 1))

    def load_state_dict(self, *arguments, **options):
        pass

    def forward(self, x):
        return super().forward(x) * self.weight


class NotPickled(Halving):
    def __init__(self, channels):
        super().__init__(channels)
        self.function = lambda x: F.avg_pool2d(x, 2)

    def forward(self, x):
        return self.function(x)


class GivesFloat32(Halving):
    def forward(self, x):
        return super().forward(x.float())


class SquaresInHalf(Halving):
    def forward(self, x):
        y = super().forward(x)
        return y * (y.square().mean(1, keepdim=True) + 1e-6).rsqrt()


class MultipliesByZeros(Halving):
    def forward(self, x):
        lines = torch.eye(x.shape[2], dtype=x.dtype)[::2] @ x
        return lines @ torch.eye(x.shape[3], dtype=x.dtype)[:, ::2]


class LooksAtValues(Halving):
    def forward(self, x):
        return super().forward(x if x.sum().item() > -1e9 else -x)


class KnowsItsBatch(Halving):
    def forward(self, x):
        return super().forward(x.reshape(len(x) // 1 if torch.compiler.is_compiling() is False else 2, *x.shape[1:]))


class KnowsItsSize(Halving):
    dynamic_sizes = True

    def forward(self, x):
        lines = torch.arange(int(x.shape[2]) // 2) * 2
        return super().forward(x[:, :, : 2 * (9 // 2)] if torch.compiler.is_compiling() else x) + 0 * lines.sum()


class NoTransforms(Halving):
    def forward(self, x):
        y = torch.zeros(len(x), x.shape[1], x.shape[2] // 2, x.shape[3] // 2, dtype=x.dtype)
        return y.add_(super().forward(x)) if not x.requires_grad else super().forward(x)


class CountsInFractions(Halving):
    def flops(self, size):
        return 4.5


class SaysItKeepsConstants(Halving):
    keeps_constants = True

    def forward(self, x):
        return 2 * super().forward(x)


class SaysItMixes(Halving):
    mixes_channels = True


class SaysBounded(Halving):
    bounded = True

    def forward(self, x):
        return 1.5 * super().forward(x)


class SaysBoundedAndFallsBelow(Halving):
    bounded = True

    def forward(self, x):
        return super().forward(x) - 0.5


class SaysOdd(Halving):
    odd = True

    def forward(self, x):
        return F.max_pool2d(x, 2)


class SaysHomogeneous(Halving):
    homogeneous = True

    def forward(self, x):
        return super().forward(x).tanh()


class SaysItFollowsOffsets(Halving):
    follows_offset = True

    def forward(self, x):
        return super().forward(x * x).add(1e-6).sqrt()


class SaysItKeepsSigns(Halving):
    keeps_sign = True

    def forward(self, x):
        return super().forward(x) - 0.5 * F.max_pool2d(x, 2)


class SaysItMirrors(Halving):
    mirrors = True

    def forward(self, x):
        return x[..., ::2, ::2].clone()


class SaysStationary(Halving):
    stationary = True
    stride = 2

    def forward(self, x):
        y = super().forward(x)
        return y * torch.linspace(0, 1, y.shape[-1])


class WrongSlopeOfSomeWeights(Halving):
    """Of a tenth of its thousand; it has too many for a difference each."""

    def __init__(self, channels):
        super().__init__(channels)
        self.weight = nn.Parameter(torch.rand(1000))

    def forward(self, x):
        weight = torch.cat([self.weight[:900], self.weight[900:].detach()])
        return F.avg_pool2d(x, 2) * weight.square().mean()


class RoundsToNothing(Halving):
    def forward(self, x):
        quarter = torch.full((x.shape[1], 1, 2, 2), 0.25).to(x.dtype)
        return F.conv2d(x, quarter, stride=2, groups=x.shape[1])


class TakesRowsForChannels(Halving):
    def forward(self, x):
        return super().forward(x / (1 + x.abs().amax(1, keepdim=True)))


class TakesTheFirstOfFive(Halving):
    def forward(self, x):
        return super().forward(x if x.dim() < 5 else x[0])


class BroadcastsChannels(Halving):
    def __init__(self, channels):
        super().__init__(channels)
        self.weight = nn.Parameter(torch.ones(channels, 1, 1))

    def forward(self, x):
        return super().forward(x) * self.weight


class NeedsAnImage(Halving):
    def forward(self, x):
        return torch.stack([F.avg_pool2d(one, 2) for one in x])


class GivesAnEmptyMap(Halving):
    def forward(self, x):
        return super().forward(x) if len(x) else x


class CutsTheGraphOfNothing(Halving):
    def forward(self, x):
        return super().forward(x if len(x) else x.detach())


class CountsNothing(Halving):
    def __init__(self, channels):
        super().__init__(channels)
        self.register_buffer("mean", torch.ones(()))

    def forward(self, x):
        self.mean = self.mean * 0.9 if self.training else self.mean
        return super().forward(x)


class TracesItsBatch(Halving):
    def forward(self, x):
        return super().forward(x) * torch.ones(int(x.shape[0]), 1, 1, 1)


class TracesAnotherFormula(Halving):
    def forward(self, x):
        return F.max_pool2d(x, 2) if torch.jit.is_tracing() else super().forward(x)


class FxSeesAnotherFormula(Halving):
    def forward(self, x):
        return super().forward(x) if isinstance(x, torch.Tensor) else F.max_pool2d(x, 2)


class ForgetsTheDevice(Halving):
    def forward(self, x):
        return super().forward(x) + torch.zeros(1, dtype=x.dtype)


class MadeOnTheCpu(Halving):
    def __init__(self, channels):
        super().__init__(channels)
        self.register_buffer("share", torch.ones(1, device="cpu"))


class ResetForgetsABuffer(Halving):
    def __init__(self, channels):
        super().__init__(channels)
        self.register_buffer("share", torch.full((1, channels, 1, 1), 0.5), persistent=False)

    def reset_parameters(self):
        pass

    def forward(self, x):
        return super().forward(x) * self.share


class ExportsAnotherFormula(Halving):
    def forward(self, x):
        return super().forward(x) * (2 if torch.compiler.is_exporting() else 1)


class SaysNoOnnx(Halving):
    onnx = False


BROKEN = {
    "shape": [FewerChannels, WrongSize, WrongRatio],
    "images_apart": [SeesTheBatch],
    "memory_format": [ForgetsTheFormat, CutsOff],
    "input_untouched": [WorksInPlace, GivesAView],
    "refusals": [RoundsToNothing, TakesRowsForChannels, TakesTheFirstOfFive, BroadcastsChannels],
    "empty_batch": [NeedsAnImage, GivesAnEmptyMap, CutsTheGraphOfNothing, CountsNothing],
    "gradients": [WrongSlope, WrongSlopeOfSomeWeights],
    "zero_maps": [NaNAtZero, InfiniteSlopeAtZero],
    "large_values": [Overflows],
    "parameters_learn": [Unused, MadeLate],
    "randomness": [SilentlyRandom, OtherRandomNumbers, IgnoresItsGenerator],
    "evaluation": [RandomInEvaluation, CountsInEvaluation, RemadeInEveryPass],
    "state": [NotPickled, ForgetsWhatIsLoaded],
    "low_precision": [GivesFloat32, SquaresInHalf],
    "locality": [MultipliesByZeros],
    "compiles": [LooksAtValues],
    "tracing": [TracesItsBatch, TracesAnotherFormula, FxSeesAnotherFormula],
    "exports": [LooksAtValues, KnowsItsBatch, KnowsItsSize, ExportsAnotherFormula, SaysNoOnnx],
    "transforms": [LooksAtValues, NoTransforms],
    "flops": [CountsInFractions],
    "devices": [ForgetsTheDevice, MadeOnTheCpu, ResetForgetsABuffer],
    "constants": [SaysItKeepsConstants],
    "channels": [FewerChannels, SaysItMixes],
    "bounds": [SaysBounded, SaysBoundedAndFallsBelow],
    "oddness": [SaysOdd],
    "homogeneity": [SaysHomogeneous],
    "offsets": [SaysItFollowsOffsets],
    "signs": [SaysItKeepsSigns],
    "mirrors": [SaysItMirrors],
    "stationarity": [SaysStationary],
}


def test_every_check_is_shown_a_pool_that_breaks_it():
    assert BROKEN.keys() == CHECKS.keys()


@pytest.mark.parametrize(
    ("check", "pool"), [(check, pool) for check, pools in BROKEN.items() for pool in pools], ids=lambda v: str(v)
)
def test_a_broken_pool_fails_the_check_that_it_breaks(check, pool):
    if pool is SaysNoOnnx:
        pytest.importorskip("onnxruntime")
    (outcome,) = check_pool(pool, [check])
    assert outcome.state == "failed", outcome
    assert outcome.explanation
    if check == "gradients":
        assert "Jacobian mismatch" in outcome.explanation
    if pool is InfiniteSlopeAtZero:
        assert "NaN or infinite gradients" in outcome.explanation
    if pool is ExportsAnotherFormula:  # torch's own program already, before ONNX
        assert "exported, it gives other values" in outcome.explanation


def test_a_sound_pool_that_says_nothing_of_itself_fails_nothing():
    outcomes = check_pool(Halving)
    assert [outcome for outcome in outcomes if outcome.state == "failed"] == []
    assert {outcome.check for outcome in outcomes if outcome.state == "skipped"} >= {"oddness", "constants", "flops"}
    assert all(outcome.explanation for outcome in outcomes if outcome.state == "skipped")


def test_a_pool_of_somebody_that_looks_at_values_is_not_held_to_devices_without_any():
    (outcome,) = check_pool(LooksAtValues, ["devices"])
    assert (outcome.state, "without values" in outcome.explanation) == ("skipped", True)


def test_what_is_claimed_and_what_is_not_are_both_held_against_ours():
    class Modest(Pool):
        def forward(self, x):
            return F.avg_pool2d(x, 2)

    class Ours(Modest):
        __module__ = "poolbench.pooling.modest"

    (outcome,) = check_pool(Modest, ["signs"])
    assert outcome.state == "skipped"
    (outcome,) = check_pool(Ours, ["signs"])
    assert outcome.state == "failed"
    assert "keeps_sign = False, but this holds" in outcome.explanation


def test_maps_that_are_not_ours_to_take_may_be_served_as_torch_serves_them():
    class Largest(Halving):  # exact on whole numbers and on (C, H, W), whatever the channels
        def forward(self, x):
            return F.max_pool2d(x, 2)

    class OurLargest(Largest):
        __module__ = "poolbench.pooling.largest"

    class Shapes(Halving):  # of which torch.fx cannot follow the sizes
        def forward(self, x):
            return super().forward(x[..., : x.shape[-1] - 1] if x.shape[-1] % 2 else x)

    assert [outcome.state for outcome in check_pool(Largest, ["refusals", "tracing"])] == ["passed", "passed"]
    assert [outcome.state for outcome in check_pool(Halving, ["refusals"])] == ["passed"]  # its averages are rounded
    assert [outcome.state for outcome in check_pool(Shapes, ["tracing"])] == ["skipped"]
    (outcome,) = check_pool(OurLargest, ["refusals"])
    assert outcome.state == "failed"  # five dimensions are refused, but not by name


def test_an_error_inside_a_pool_is_a_failure_with_its_place():
    class Raises(Halving):
        def forward(self, x):
            raise RuntimeError("out of ideas")

    (outcome,) = check_pool(Raises, ["shape"])
    assert outcome.state == "failed"
    assert "RuntimeError: out of ideas" in outcome.explanation
    assert __file__ in outcome.explanation


def test_every_check_has_a_sentence():
    assert all(promised(check).endswith(".") for check in CHECKS.values())


def test_nothing_of_the_checks_needs_more_than_torch():
    code = "import sys, poolbench.testing; sys.exit('pytest' in sys.modules or 'hypothesis' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_the_global_generator_is_the_only_thing_that_a_check_moves():
    before = torch.get_num_threads(), torch.get_default_dtype(), torch.is_grad_enabled()
    check_pool(lambda channels: create_pool("max", channels=channels), ["gradients", "compiles", "low_precision"])
    assert (torch.get_num_threads(), torch.get_default_dtype(), torch.is_grad_enabled()) == before
