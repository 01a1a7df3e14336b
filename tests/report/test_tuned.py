"""A report of tuned cells: a table at the same recipe, a table at each pool's own, and no trial in either."""

import pandas as pd
import pytest

from poolbench.report import write_report
from tests.records.test_tuning import MARK
from tests.report.synthetic import make_config, write_cell

RATES = {"max": 0.03, "lp": 0.3}
SHARED = "convnet, global_average, cifar10, 8 epochs"


@pytest.fixture(scope="module")
def reported(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tuned")
    for seed in range(3):
        for pool, rate in RATES.items():
            write_cell(folder / "runs", make_config(pool, seed))
            config = make_config(pool, seed, optimizer__lr=rate, names__optimizer=f"sgd(lr={rate})")
            config["tuned"] = {**MARK, "set": {"optimizer.lr": rate}}
            write_cell(folder / "runs", config)
    for rate in (0.03, 0.1, 0.3):
        changes = {"optimizer__lr": rate, "trainer__test": False, "data__validation": 0.1}
        write_cell(folder / "runs", make_config("max", 1000, **changes), test_accuracy=None, test_samples=0)
    return folder, write_report(folder / "runs", folder / "out")


def test_both_views_stand_side_by_side_with_the_same_statistics(reported):
    _, report = reported
    assert [rows["setting"].iloc[0] for rows, _ in report.groups] == [SHARED, f"{SHARED}, tuned"]
    for rows, _ in report.groups:
        assert sorted(rows["pool"]) == ["lp", "max"]
        assert set(rows["seeds"]) == {3}
        lp = rows[rows["pool"] == "lp"].iloc[0]
        assert lp["blocks"] == 3
        assert pd.notna(lp["p_holm"])


def test_each_table_says_what_was_tuned_how_and_on_what(reported):
    folder, report = reported
    same, tuned = (" ".join(notes) for _, notes in report.groups)
    for words in ("same recipe", "optimizer.lr=0.1", "'tuned'"):
        assert words in same
    for words in ("optimizer.lr in log(0.01,1.0)", "9 trials a pool", "10 % of the training images", "test set had no"):
        assert words in tuned
    assert "lp optimizer.lr=0.3" in tuned
    assert "max optimizer.lr=0.03" in tuned
    assert "sgd(lr=tuned)" in tuned
    summary = (folder / "out/summary.md").read_text()
    assert f"## {SHARED}, tuned" in summary
    assert "9 trials a pool" in summary


def test_trials_are_in_no_table_and_counted_below(reported):
    folder, report = reported
    assert report.trials == 3
    assert len(report.cells) == 12
    assert report.cells["test_accuracy"].notna().all()
    for text in (report.text, (folder / "out/summary.md").read_text()):
        assert "3 cells that did not read the test set" in text


def test_each_view_has_its_figures(reported):
    folder, _ = reported
    names = {path.name for path in (folder / "out").glob("*.svg")}
    assert names == {f"{name}{end}.svg" for name in ("accuracy", "curves", "cost") for end in ("", "-tuned")}


def test_a_cell_in_both_views_has_a_row_in_both(tmp_path):
    for pool in ("max", "lp"):
        write_cell(tmp_path / "runs", make_config(pool, 0))
    # Found for max: what it had before.
    from poolbench.records.tuning import recipe

    config = make_config("lp", 0, optimizer__lr=0.3)
    config["tuned"] = {**MARK, "set": {"optimizer.lr": 0.3}, "recipes": [recipe(make_config("max", 0))]}
    write_cell(tmp_path / "runs", config, environment={"fingerprint": "0011223344"})
    report = write_report(tmp_path / "runs", tmp_path / "out")
    assert [sorted(rows["pool"]) for rows, _ in report.groups] == [["lp", "max"]] * 2
    assert len(report.cells) == 4


def test_trials_alone_make_a_report_without_a_table(tmp_path):
    write_cell(tmp_path / "runs", make_config("max", 1000, trainer__test=False), test_accuracy=None)
    report = write_report(tmp_path / "runs", tmp_path / "out")
    assert report.groups == []
    assert "1 cell that did not read the test set" in report.text


def test_a_record_without_a_test_accuracy_is_damaged_unless_it_is_a_trial(tmp_path):
    write_cell(tmp_path / "runs", make_config("max", 0))
    write_cell(tmp_path / "runs", make_config("lp", 0), test_accuracy=None)
    report = write_report(tmp_path / "runs", tmp_path / "out")
    assert [problem.reason for problem in report.problems] == ["result: test_accuracy is None, not a number"]
