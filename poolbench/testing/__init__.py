"""What every pool promises, as checks that anybody runs on a pool of their own: ``poolbench check-pool mypkg.MyPool``,
or in a test of theirs::

    import pytest
    from poolbench.testing import CHECKS


    @pytest.mark.parametrize("check", CHECKS.values(), ids=CHECKS)
    def test_my_pool(check):
        check(lambda channels: MyPool(channels))
"""

import inspect
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from poolbench.testing import behaviour, claims, derivatives, devices, export, inputs, precision, values
from poolbench.testing.face import CHANNELS, Failed, Maker, Skipped

__all__ = ["CHANNELS", "CHECKS", "Failed", "Maker", "Outcome", "Skipped", "check_pool", "promised"]


@dataclass(frozen=True)
class Outcome:
    """How one check ended: ``state`` is ``"passed"``, ``"failed"`` or ``"skipped"``."""

    check: str
    promise: str
    state: str
    explanation: str = ""


def check_pool(make: Maker, only: Iterable[str] | None = None) -> list[Outcome]:
    """Run all checks (or those named in ``only``) on the pool that ``make(channels)`` builds.

    Returns: one outcome a check. An error inside the pool is a failure; nothing is raised.
    """
    outcomes = []
    for name in CHECKS if only is None else only:
        check = CHECKS[name]
        promise = promised(check)
        try:
            check(make)
        except Skipped as reason:
            outcomes.append(Outcome(name, promise, "skipped", str(reason)))
        except Failed as failure:
            outcomes.append(Outcome(name, promise, "failed", str(failure)))
        except Exception as error:
            place = _innermost(error)
            outcomes.append(Outcome(name, promise, "failed", f"{type(error).__name__}: {error} (raised {place})"))
        else:
            outcomes.append(Outcome(name, promise, "passed"))
    return outcomes


def promised(check: Callable[[Maker], None]) -> str:
    """The sentence that a check stands for."""
    return (inspect.getdoc(check) or "").partition("\n")[0]


def _innermost(error: Exception) -> str:
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    return f"in {trace.tb_frame.f_code.co_filename}, line {trace.tb_lineno}" if trace else "nowhere known"


CHECKS: dict[str, Callable[[Maker], None]] = {
    check.__name__: check
    for check in (
        values.shape,
        values.images_apart,
        values.memory_format,
        values.input_untouched,
        inputs.refusals,
        inputs.empty_batch,
        derivatives.gradients,
        derivatives.zero_maps,
        derivatives.large_values,
        derivatives.parameters_learn,
        behaviour.randomness,
        behaviour.evaluation,
        behaviour.state,
        precision.low_precision,
        precision.locality,
        export.compiles,
        export.exports,
        inputs.tracing,
        behaviour.transforms,
        behaviour.flops,
        devices.devices,
        claims.constants,
        claims.channels,
        claims.bounds,
        claims.oddness,
        claims.homogeneity,
        claims.offsets,
        claims.signs,
        claims.mirrors,
        claims.stationarity,
    )
}
