"""The script that measures the noise of published cells."""

from pathlib import Path

import numpy as np
import pytest

from poolbench.records.outcomes import packed
from poolbench.records.read import read_records
from scripts.measure_noise import _counts, _prior, measured
from tests.claims.claimed import make_record

ROOT = Path(__file__).parents[1]


def records(arms=6, seeds=60, noise=0.003, block=0.002, **result):
    draw = np.random.default_rng(1)
    blocks = draw.normal(0, block, seeds)
    return [
        make_record(f"pool{arm}", seed, float(0.8 + blocks[seed] + draw.normal(0, noise)), result=RESULT | result)
        for arm in range(arms)
        for seed in range(seeds)
    ]


RESULT = {"test_samples": 10_000}


def number(lines, words):
    (line,) = [line for line in lines if line.startswith(words)]
    return float(next(word for word in line.partition(":")[2].split() if word[0].isdigit()))


def test_spreads_of_made_cells_are_found():
    lines = measured({Path("a"): records()})
    assert number(lines, "sd of an accuracy") == pytest.approx(100 * np.hypot(0.003, 0.002), rel=0.2)
    assert number(lines, "sd after arm and block") == pytest.approx(0.3, rel=0.15)
    assert number(lines, "variance of a difference") == pytest.approx(9 / 13, rel=0.2)
    law = (0.003**2 + 0.002**2) * 10_000 / (0.8 * 0.2)
    assert number(lines, "variance of an accuracy") == pytest.approx(law, rel=0.3)


def test_the_same_cell_elsewhere_and_images():
    here = records(2, 3)
    there = records(2, 3)
    for record in there:
        record.environment["fingerprint"] = "another"
        record.result["test_accuracy"] += 0.01 if record.config["seed"] else -0.01
    lines = measured({Path("a"): here, Path("b"): there})
    assert number(lines, "the same cell on two kinds of processor: sd of the difference") == pytest.approx(
        1.03, abs=0.01
    )
    assert not any("image to image" in line for line in lines)
    draw = np.random.default_rng(4)
    for record in here:  # errors that fall on images by chance alone
        right = draw.random(10_000) < 0.8
        record.result["test_accuracy"] = float(right.mean())
        object.__setattr__(record, "outcomes", packed(right.tolist(), [0] * 10_000, 1))
    assert number(measured({Path("a"): here}), "of that, errors") == pytest.approx(1.0, abs=0.05)


def test_the_prior_is_found_of_variances_that_were_drawn_with_it():
    draw = np.random.default_rng(2)
    spreads = [(float(11 / draw.chisquare(11) * draw.chisquare(5) / 5), 5) for _ in range(3000)]
    assert _prior(spreads) == pytest.approx(11, rel=0.2)


def test_the_page_has_what_the_script_measures():
    paths = sorted((ROOT / "results").rglob("records.jsonl"))
    lines = measured({path: [record for record in read_records(path)[0] if _counts(record)] for path in paths})
    page = (ROOT / "docs/power.md").read_text()
    assert "\n".join(lines) in page
    protocol = (ROOT / "docs/protocol.md").read_text()
    assert f"variance is {number(lines, 'variance of a difference'):.2f} of that without pairs" in protocol
