"""The experiments of the history: their claims find their arms among the cells that their sweeps declare."""

import statistics
from pathlib import Path

import pytest

from poolbench.claims.claim import NO_RECORD, numbers_of
from poolbench.claims.published import experiments_with_claims
from poolbench.claims.reading import read_claims
from poolbench.claims.verdicts import judge
from poolbench.config_files import experiments_dir
from poolbench.records.probes import names
from poolbench.records.read import ARCHIVE, Record, read_records
from poolbench.sweep.plan import make_plan
from tests.plans import planned

ROOT = Path(__file__).resolve().parents[1]
HISTORY = [
    "2012_overlapping",
    "2014_all_convolutional",
    "2014_fractional",
    "2014_multi_scale_orderless",
    "2014_spatial_pyramid",
    "2017_capsules",
    "2017_learned",
]
SENTENCES = [
    "2026_heads",
    "2026_overfitting",
    "2026_shrinking",
    "2026_what_pooling_does",
]  # what is said without a paper


@pytest.fixture(autouse=True)
def from_the_checkout(monkeypatch):
    monkeypatch.chdir(ROOT)


def done(cell, metrics):
    """The record that ``cell`` would leave, with numbers made up."""
    seed = cell.config["seed"]
    result = {name: 0.5 + 0.01 * seed + 0.001 * (hash(cell.overrides) % 7) for name in metrics}
    return Record(cell.run_id, Path("none"), cell.config, {}, result)


def metrics_of(claims, config):
    """The numbers that a cell of ``config`` leaves, of those that ``claims`` read: probes give theirs where asked."""
    read = {name for claim in claims for m in (claim.metric_control, claim.metric_treatment) for name in numbers_of(m)}
    return ["test_accuracy", "train_accuracy", *(read & set(names(config["probe"])))]


def test_these_are_all():
    assert list(experiments_with_claims()) == HISTORY + SENTENCES
    assert {path.parent.name for path in experiments_dir().glob("*/claim.yaml")} == {*HISTORY, *SENTENCES}


@pytest.mark.parametrize(
    ("name", "scale"),
    [*((name, scale) for name in HISTORY for scale in ("", "paper")), *((name, "") for name in SENTENCES)],
)
def test_every_claim_finds_its_arms_in_every_seed(name, scale):
    plan = planned(name, scale)
    claims = read_claims(experiments_dir() / name / "claim.yaml", scale or "small", plan.scales)
    records = [done(cell, metrics_of(claims, cell.config)) for cell in plan.cells]
    judgements = judge(claims, records)
    assert {judgement.claim.id for judgement in judgements} == {claim.id for claim in claims}
    seeds = {cell.config["seed"] for cell in plan.cells}
    assert len(seeds) >= 3  # small: see the next test
    for judgement in judgements:
        assert judgement.verdict != NO_RECORD, (judgement.claim.id, judgement.why)
        assert set(judgement.gains) == seeds, (judgement.claim.id, judgement.notes)
    # Every cell is there for some claim; where measures are looked at, pools are there for them as well.
    used = {run for j in judgements for runs in (j.control_runs, j.treatment_runs) for run in runs.values()}
    assert name in SENTENCES or {cell.run_id for cell in plan.cells} - used == set()


@pytest.mark.parametrize("name", HISTORY)
def test_fewer_seeds_than_six_are_for_cells_of_over_five_minutes_and_its_page_says_when_they_were_cut(name):
    page = " ".join((experiments_dir() / name / "README.md").read_text(encoding="utf-8").split())
    seeds = {cell.config["seed"] for cell in planned(name).cells}
    records, _ = read_records(ROOT / "results" / name / ARCHIVE)
    seconds = [record.result["cell_seconds"] for record in records]  # as they were trained, two at once
    every = "a cell takes" if min(seconds) > 300 else "most cells take"
    cut = (
        "on 27 November, when three seeds of four of the seven experiments were in, this one was cut to three, because"
    )
    assert ("Three paired seeds. Six were declared on 24 November 2026" in page) == (len(seeds) == 3)
    assert (f"{cut} {every} over 5 minutes" in page) == (len(seeds) == 3)
    assert len(seeds) >= 6 or statistics.median(seconds) > 300


@pytest.mark.parametrize("name", HISTORY)
def test_the_papers_own_scale_is_declared_too(name):
    small, paper = planned(name), planned(name, "paper")
    assert paper.name == f"{name}-paper"
    most = max(cell.config["trainer"]["epochs"] for cell in small.cells)
    assert max(cell.config["trainer"]["epochs"] for cell in paper.cells) > 2 * most


def test_the_smallest_difference_is_no_larger_than_what_the_paper_found_on_the_same_data():
    claims = [claim for name in HISTORY for claim in read_claims(experiments_dir() / name / "claim.yaml")]
    found = [
        c for c in claims if c.kind == "better" and (c.paper.gain or 0) > 0 and c.paper.metric.startswith("CIFAR-10 ")
    ]
    assert len(found) >= 4
    for claim in found:
        assert claim.smallest_difference <= claim.paper.gain, claim.id


@pytest.mark.parametrize("name", HISTORY + SENTENCES)
def test_its_page_has_a_place_for_what_came_out(name):
    text = (experiments_dir() / name / "README.md").read_text(encoding="utf-8")
    assert text.startswith("# ")
    assert f"<!-- claims: {name} -->\n" in text
    assert f"poolbench reproduce {name} " in text


def test_other_data_and_nets_take_the_place_of_what_is_declared():
    plan = make_plan(["sweep=2012_overlapping", "data=shapes", "model=fast_cnn_tiny", "seeds=3"])
    pools = {(cell.config["names"]["pool"], cell.config["seed"]) for cell in plan.cells}
    assert len(plan.cells) == len(pools) == 9
    assert {cell.config["names"]["model"] for cell in plan.cells} == {"fast_cnn_tiny"}
