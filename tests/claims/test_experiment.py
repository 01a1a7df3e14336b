import json
import subprocess
import sys
from functools import partial
from pathlib import Path

import pandas as pd
import pytest

import poolbench.report
from poolbench.claims.claim import ClaimError
from poolbench.claims.experiment import write_experiment
from poolbench.claims.figure import claim_figure
from poolbench.records.read import read_records
from poolbench.report.drawings import drawn_by
from poolbench.statistics.blocks import accuracy_floor, fit
from poolbench.statistics.estimates import mean_interval
from tests.claims.claimed import make_claims
from tests.report.synthetic import make_runs

PACKAGE = Path(poolbench.report.__file__).parents[1]


def _records(folder, seeds=3):
    return read_records(make_runs(folder / "runs", ["max", "overlapping"], seeds))[0]


def _written(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    """An experiment's records, claims, folder and what was said of it."""
    folder = tmp_path_factory.mktemp("experiment")
    records, claims = _records(folder), make_claims(folder, {}, {"treatment": {"pool": "lp"}})
    return records, claims, folder / "out", write_experiment("2012_overlapping", records, claims, folder / "out")


def test_an_experiment_is_a_report_and_its_claims(done):
    _, claims, output, experiment = done
    names = sorted(path.name for path in experiment.files)
    assert names == sorted(_written(output))
    assert {"cells.csv", "summary.csv", "claims.csv", "claims.md", "claims.png", "claims.svg"} <= set(names)
    assert [one.verdict for one in experiment.judgements][1:] == ["no record"]
    assert claims[0].says in experiment.markdown
    assert experiment.markdown in (output / "claims.md").read_text(encoding="utf-8")
    assert "verdict" in experiment.text


def test_every_number_can_be_recomputed_from_the_table(done):
    records, _, output, experiment = done
    row, none = pd.read_csv(output / "claims.csv").to_dict("records")
    results = {record.run_id: record.result["test_accuracy"] for record in records}
    values = [json.loads(row[f"{arm}_values"]) for arm in ("control", "treatment")]
    for arm, own in zip(("control", "treatment"), values, strict=True):
        assert own == {seed: results[run] for seed, run in json.loads(row[f"{arm}_runs"]).items()}
        assert row[f"{arm}_mean"] == pytest.approx(mean_interval(own.values()).mean)
    gains = [values[1][seed] - values[0][seed] for seed in values[0]]
    assert json.loads(row["gains"]) == pytest.approx(dict(zip(values[0], gains, strict=True)))
    # By rule 1 each pair stands alone.
    alone, judged = mean_interval(gains), mean_interval(gains, row["rule1_level"])
    assert tuple(row[f"rule1_gain_{name}"] for name in ("mean", "low", "high")) == pytest.approx(
        (alone.mean, alone.low, alone.high)
    )
    assert (row["rule1_judged_low"], row["rule1_judged_high"]) == pytest.approx((judged.low, judged.high))
    # By rule 2 in blocks, and with no less spread than a test set of 10,000 images has.
    arms = {name: dict(own) for name, own in zip(("max", "overlapping"), values, strict=True)}
    floor = accuracy_floor(mean_interval(values[1].values()).mean, 10_000)
    again = fit(arms).difference("overlapping", "max", floor)
    assert row["gain_mean"] == pytest.approx(again.mean)
    assert (row["gain_low"], row["gain_high"]) == pytest.approx(again.interval())
    assert (row["judged_low"], row["judged_high"]) == pytest.approx(again.interval(row["level"]))
    assert row["level"] == pytest.approx(0.9)  # a claim alone, from one side at 5 %
    assert (row["pairs"], row["verdict"]) == (3, experiment.judgements[0].verdict)
    assert json.loads(row["treatment"]) == {"pool": "overlapping"}
    assert row["paper_gain"] == 0.004
    assert (none["pairs"], none["verdict"]) == (0, "no record")


def test_writing_it_again_changes_nothing_and_draws_nothing(done):
    records, claims, output, _ = done
    before = _written(output)
    assert write_experiment("2012_overlapping", records, claims, output).drawn == []
    assert _written(output) == before


def test_the_figure_is_drawn_again_when_a_claim_changed(done, tmp_path):
    records, _, output, _ = done
    claims = make_claims(tmp_path, {"smallest_difference_of_interest": 0.02}, {"treatment": {"pool": "lp"}})
    again = write_experiment("2012_overlapping", records, claims, output)
    assert {path.name for path in again.drawn} == {"claims.png", "claims.svg"}


def test_a_plain_report_in_the_same_folder_has_no_claims_figure(done, tmp_path):
    records, claims, _, _ = done
    write_experiment("x", records, claims, tmp_path)
    poolbench.report.write_report(records, tmp_path)
    assert not (tmp_path / "claims.png").exists()


def test_a_claim_that_does_not_fit_is_said_before_anything_is_written(done, tmp_path):
    records, _, _, _ = done
    claims = make_claims(tmp_path, {"metric": "test_acuracy"})
    with pytest.raises(ClaimError, match=r"2012_overlapping/claim.yaml: claim 'lower_error'.*'test_accuracy'"):
        write_experiment("2012_overlapping", records, claims, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_all_code_that_draws_the_figure_is_watched():
    found = {str(file.relative_to(PACKAGE)) for file in drawn_by(partial(claim_figure, [], None))}
    assert {"claims/figure.py", "claims/rows.py", "report/canvas.py", "statistics/estimates.py"} <= found
    assert {"report/plots.py", "report/placement.py"} <= found  # what saves it
    assert not {"claims/experiment.py", "report/drawings.py", "records/files.py"} & found


def test_no_module_that_drawing_loads_is_unwatched():
    code = f"""
import sys
from pathlib import Path
import poolbench.report.plots, poolbench.claims.figure
room = Path({str(PACKAGE)!r}, "claims")
files = [Path(module.__file__) for module in list(sys.modules.values()) if getattr(module, "__file__", None)]
print(*(file for file in files if file.parent == room and file.name != "__init__.py"))
"""
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert len(loaded) > 3
    assert {Path(file) for file in loaded} <= set(drawn_by(claim_figure))
