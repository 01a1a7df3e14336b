"""Each plain option takes what it should and nothing else."""

import math

import pytest

from poolbench.configuration import ConfigError
from poolbench.limits import LIMITS, check

WHOLE = ([1, 7, 10**6], [0, -1, 1.0, 1.5, True, "1", None, [1]])
FROM_ZERO = ([0, 1, 10**6], [-1, 1.0, 0.5, True, False, "0", None, [0]])
EITHER = ([True, False], [0, 1, "true", None, []])
PATH = (["runs", "a b", "/tmp/x=y"], ["", None, 3, True, ["runs"]])
MAY_BE_NULL = ([None, *WHOLE[0]], [value for value in WHOLE[1] if value is not None])

CASES = {
    "seed": ([*FROM_ZERO[0], 2**63 - 1], [*FROM_ZERO[1], 2**63]),
    "runs_dir": PATH,
    "report_dir": PATH,
    "trainer.epochs": FROM_ZERO,
    "trainer.batch_size": WHOLE,
    "trainer.label_smoothing": ([0, 0.0, 0.1, 0.999], [1, 10**400, 1.0, -0.1, math.nan, math.inf, True, "0.1", None]),
    "trainer.weight_averaging": ([0, 0.0, 0.9, 0.999], [1, 1.0, -0.1, math.nan, True, "0.9", None]),
    "trainer.alternate_flip": EITHER,
    "trainer.sizes": ([None, [32], [32, 26], [24, 28, 32]], [[], 32, [0], [32.0], [True], ["32"], "32", False]),
    "trainer.skip_easy": ([0, 0.0, 0.48, 0.8], [0.81, 10**400, 1, -0.1, math.nan, math.inf, True, "0.5", None, [0.5]]),
    "trainer.frozen_statistics": EITHER,
    "trainer.flip_averaging": EITHER,
    "trainer.test": EITHER,
    "trainer.precision": (["fp32", "bf16", "fp16"], ["fp8", "FP32", "", 32, None, ["fp32"]]),
    "trainer.channels_last": EITHER,
    "trainer.compile": EITHER,
    "trainer.evaluation_batch_size": WHOLE,
    "trainer.train_evaluation": WHOLE,
    "trainer.device": (
        ["auto", "cpu", "cuda", "cuda:0", "cuda:11", "mps", "mps:0", "xpu", "xpu:11"],
        ["gpu", "mps:", "xpu:-1", "npu", "cuda:", "cuda:-1", "cuda:x", "cuda:²", "cuda:1\n", "1", "", 0, None],
    ),
    "trainer.threads": MAY_BE_NULL,
    "trainer.keep_memory": EITHER,
    "probe.sizes": ([[], [32], [24, 28]], [None, 32, [0], [24.0], [True], ["24"], [24, 24], [10**400], "24"]),
    "probe.draws": ([[], [1], [1, 4, 12]], [None, 4, [0], [1.5], [True], [4, 4]]),
    "probe.scale": ([[], [1], [0.8, 1.25, 2]], [None, 1.25, [0], [-1], [0.01], [21], [math.nan], [True], [2, 2.0]]),
    "probe.translate_x": ([[], [2], [-2.5, 2.5]], [None, 2, ["2"], [math.inf], [1001], [2.5, 2.50]]),
    "probe.translate_y": ([[], [2], [-2.5, 2.5]], [None, 2, ["2"], [math.inf], [1001], [0.0, -0.0]]),
    "probe.rotate": ([[], [360], [-10, 10.5]], [None, 10, [361], [math.nan], [False], [5, 5.0]]),
    "probe.flip": (
        [[], ["horizontal"], ["vertical", "horizontal"]],
        [None, True, "horizontal", ["left"], [1], ["vertical", "vertical"]],
    ),
    "probe.features": ([True, False], [None, 1, "yes"]),
    "probe.consistency": ([[], [3], [0.5, 2.5]], [None, 3, [0], [0.3], [-1], [True], [3, 3.0]]),
    "probe.site_shifts": ([[], [1], [0.5, 4]], [None, 1, [0], [0.25], [math.nan], [2, 2.0]]),
    "probe.information": ([True, False], [None, 0, []]),
    "probe.corruptions": ([[], ["noise"], ["jpeg", "fog"]], [None, "noise", ["snow"], ["fog", "fog"], [1]]),
    "probe.severities": ([[1], [5, 3, 1]], [None, [], [0], [6], [1.5], [True], [2, 2], 3]),
    "probe.calibration": ([True, False], [None, 1, "on"]),
    "probe.border": (["reflect", "zeros", "wrap"], ["mirror", "", None, 0, ["wrap"]]),
    "probe.samples": MAY_BE_NULL,
    "sweep.blocks": ([[], [{"product": {"pool": ["max"]}}]], [{}, None, "max", 3]),
    "sweep.workers": MAY_BE_NULL,
    "sweep.fail_fast": EITHER,
    "sweep.retry": FROM_ZERO,
    "sweep.order": (["blocks", "declared"], [None, "seeds", True, 1]),
    "sweep.job": (["cell", "block"], ["blocks", None, 1]),
    "sweep.max_hours": ([None, 1, 0.5, 48], [0, -1, math.nan, True, "1", [1]]),
    "sweep.sample": MAY_BE_NULL,
}


def config_with(option, value):
    group, _, key = option.rpartition(".")
    return {group: {key: value}} if group else {key: value}


def test_every_limit_has_its_cases_here():
    assert set(CASES) == set(LIMITS)


@pytest.mark.parametrize("option", CASES)
def test_what_is_allowed_passes(option):
    for value in CASES[option][0]:
        check(config_with(option, value))


@pytest.mark.parametrize(("option", "value"), [(option, value) for option in CASES for value in CASES[option][1]])
def test_what_is_not_allowed_is_named(option, value):
    with pytest.raises(ConfigError) as caught:
        check(config_with(option, value))
    message = str(caught.value)
    assert message.startswith(option)
    assert repr(value) in message
    assert LIMITS[option][1] in message


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ({"trainer": {"epoch": 3}}, ["'trainer.epoch'", "'trainer.epochs'"]),
        ({"trainer": {"precision": {"fp32": 1}}}, ["'trainer.precision.fp32'", "'trainer.precision'"]),
        ({"runs_dr": "runs"}, ["'runs_dr'", "'runs_dir='"]),
    ],
)
def test_unknown_options_are_refused(config, words):
    with pytest.raises(ConfigError, match="unknown option") as caught:
        check(config)
    for word in words:
        assert word in str(caught.value)


def test_components_and_what_we_fill_in_are_left_to_others():
    check({"pool": {"anything": 1}, "data": 3, "names": {"pool": "max"}, "run_id": "x", "data_fingerprint": "y"})


@pytest.mark.parametrize("missing", LIMITS)
def test_a_whole_config_lacks_no_option(missing):
    config = {}
    for option, (good, _) in CASES.items():
        if option != missing:
            for key, value in config_with(option, good[0]).items():
                config[key] = {**config.get(key, {}), **value} if isinstance(value, dict) else value
    check(config)
    with pytest.raises(ConfigError, match=f"{missing} is missing"):
        check(config, complete=True)
