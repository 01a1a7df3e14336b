import numpy as np
import pandas as pd
import pytest

from poolbench.records.collect import collect
from poolbench.records.read import read_records
from poolbench.report.notes import notes, spans
from poolbench.report.summary import find_baseline, plain, summarise
from tests.report.synthetic import make_config, make_runs, write_cell


def _cells(runs):
    return collect(read_records(runs)[0])


def _notes(runs, baseline="max"):
    cells = _cells(runs)
    return " ".join(notes(plain(cells), plain(summarise(cells, baseline)), baseline))


def test_rows_are_sorted_by_accuracy_and_the_baseline_is_marked(tmp_path):
    rows = summarise(_cells(make_runs(tmp_path, ["max", "average", "lp", "subsample"])))
    assert rows["test_accuracy"].is_monotonic_decreasing
    assert rows[rows["baseline"]]["pool"].tolist() == ["max"]


def test_numbers_are_those_of_the_cells(tmp_path):
    for seed, accuracy in enumerate((0.7, 0.8)):
        write_cell(tmp_path, make_config("max", seed), test_accuracy=accuracy, train_accuracy=0.9, peak_memory_bytes=60)
        write_cell(tmp_path, make_config("lp", seed), test_accuracy=accuracy + 0.1 * seed)
    rows = summarise(_cells(tmp_path)).set_index("pool")
    assert rows.loc["max", "test_accuracy"] == pytest.approx(0.75)
    assert rows.loc["max", "train_test_gap"] == pytest.approx(0.15)
    assert rows.loc["max", "peak_memory_bytes"] == 60
    assert rows.loc["lp", "difference"] == pytest.approx(0.05)
    assert rows.loc["lp", "blocks"] == 2


def test_a_difference_is_taken_on_one_kind_of_processor(tmp_path):
    make_runs(tmp_path, ["max", "average"])
    for seed in range(3):
        write_cell(tmp_path, make_config("lp", seed), environment={"fingerprint": "ffff"})
    rows = summarise(_cells(tmp_path)).set_index("pool")
    assert rows.loc["lp", "blocks"] == 0
    assert np.isnan(rows.loc["lp", "difference"])
    assert rows.loc["lp", "verdict"] == "cannot tell"
    assert pd.isna(rows.loc["lp", "among_best"])
    assert rows.loc["average", "blocks"] == 3
    assert "Never met the baseline on one kind of processor, so no difference: lp." in _notes(tmp_path)


def test_losses_are_compared_where_they_are_cross_entropies(tmp_path):
    for seed in range(3):
        for pool, more in (("max", 0.0), ("lp", -0.1)):
            loss = 0.6 + more + 0.001 * (seed * (1 + len(pool)) % 4)
            write_cell(tmp_path / "ours", make_config(pool, seed), test_loss=loss)
            capsule = make_config(pool, seed, names__head="capsule")
            write_cell(tmp_path / "margin", capsule, test_loss=loss)
            own = make_config(pool, seed, names__head="mine")
            write_cell(tmp_path / "mine", own, test_loss=loss, mirror_mean_accuracy=0.8)
            write_cell(tmp_path / "new", own, test_loss=loss, mirror_mean_accuracy=0.8, true_class_probability=0.7)
    for folder, told in (("ours", True), ("margin", False), ("mine", False), ("new", True)):
        lp = summarise(_cells(tmp_path / folder)).set_index("pool").loc["lp"]
        assert (lp["loss_verdict"] == "lower") == told, folder
        assert np.isnan(lp["loss_difference"]) is not told
        assert pd.notna(lp["test_loss"]) is told


def test_pools_that_are_surely_worse_are_not_among_the_best(tmp_path):
    # gated has two seeds only: nothing is said of it, however good it is.
    for pool, gain, seeds in (("max", 0.0, 4), ("lp", 0.0005, 4), ("average", -0.05, 4), ("gated", 0.2, 2)):
        for seed in range(seeds):
            accuracy = 0.8 + gain + 0.004 * (seed % 2) + 0.001 * ((3 * seed + len(pool)) % 3)
            write_cell(tmp_path, make_config(pool, seed), test_accuracy=accuracy)
    rows = summarise(_cells(tmp_path)).set_index("pool")
    assert rows["among_best"].dropna().to_dict() == {"max": True, "lp": True, "average": False}


def test_cells_that_did_not_finish_are_counted_and_not_averaged(tmp_path):
    make_runs(tmp_path, ["max", "lp"])
    write_cell(tmp_path, make_config("max", 9), state="failed")
    write_cell(tmp_path, make_config("gated", 0), state="running")
    rows = summarise(_cells(tmp_path)).set_index("pool")
    assert (rows.loc["max", "seeds"], rows.loc["max", "failed"]) == (3, 1)
    assert (rows.loc["gated", "seeds"], rows.loc["gated", "unfinished"]) == (0, 1)
    assert rows.index[-1] == "gated"
    said = _notes(tmp_path)
    assert "1 cell failed" in said
    assert "1 cell not finished" in said


def test_each_model_is_a_group_of_its_own(tmp_path):
    make_runs(tmp_path, ["max", "lp"])
    make_runs(tmp_path, ["max", "lp"], names__model="resnet", model__widths=[8])
    rows = summarise(_cells(tmp_path))
    assert rows.groupby("group")["pool"].nunique().tolist() == [2, 2]
    assert rows["baseline"].sum() == 2


def test_the_baseline_may_be_named_without_its_options():
    assert find_baseline(["max", "max(p=1)"], "max") == "max"
    assert find_baseline(["max(p=1)", "lp"], "max") == "max(p=1)"
    assert find_baseline(["max(p=1)", "max(p=2)"], "max") is None


def test_notes_say_what_the_budget_was(tmp_path):
    said = _notes(make_runs(tmp_path, ["max", "lp"]))
    assert "8 epochs of 50,000 training images" in said
    assert "training FLOPs" in said
    assert "Seeds 0-2." in said


def test_notes_say_how_many_images_were_skipped(tmp_path):
    assert "skipped" not in _notes(make_runs(tmp_path / "all", ["max"]))
    for seed in range(2):
        write_cell(tmp_path / "some", make_config("max", seed), images_seen=300_000)  # of 8 times 390 batches of 128
    assert "8 epochs of 50,000 training images, 25 % of them skipped as easy" in _notes(tmp_path / "some")


def test_notes_say_when_the_baseline_is_missing(tmp_path):
    assert "The baseline 'max' has no finished cell" in _notes(make_runs(tmp_path, ["lp", "average"]))


def test_notes_name_seeds_that_cannot_be_paired(tmp_path):
    make_runs(tmp_path, ["max", "lp"], seeds=4)
    write_cell(tmp_path, make_config("average", 0))
    write_cell(tmp_path, make_config("average", 1))
    write_cell(tmp_path, make_config("average", 8))
    said = _notes(tmp_path)
    assert "average: 2 blocks (it lacks seed 2 3, the baseline lacks seed 8)" in said


def test_notes_flag_mixed_environments_and_say_how_many_pairs_they_split(tmp_path):
    make_runs(tmp_path, ["max"], seeds=3)
    for seed in range(3):
        other = {"fingerprint": "ffff", "threads": 1, "commit": "abcdef", "dirty": True} if seed else None
        write_cell(tmp_path, make_config("lp", seed), environment=other, mixed_environment=seed == 1)
    said = _notes(tmp_path)
    assert "Environments are mixed: 0011223344 (4 cells), ffff (2 cells), which differ in threads" in said
    assert "2 of 3 pairs of a seed cross two environments: they are in no difference" in said
    assert "2 commits" in said
    assert "2 of 6 cells were trained by code with uncommitted changes" in said
    assert "1 of 6 cells went on in another environment" in said


def test_notes_flag_nothing_when_there_is_nothing_to_flag(tmp_path):
    for seed in range(6):
        for pool in ("max", "lp"):
            write_cell(tmp_path, make_config(pool, seed), environment={"host": "box"})
    said = _notes(tmp_path)
    assert not any(word in said for word in ("mixed", "commits", "uncommitted", "failed", "lacks"))


def test_seconds_of_cells_are_no_cost_of_a_pool(tmp_path):
    columns = summarise(_cells(make_runs(tmp_path, ["max"]))).columns
    assert not {"images_per_second", "cell_seconds", "train_seconds"} & set(columns)


def test_a_pool_that_equals_the_baseline_everywhere_is_pointed_out(tmp_path):
    for seed in range(3):
        write_cell(tmp_path, make_config("max", seed), test_accuracy=0.8 + 0.01 * seed)
        write_cell(tmp_path, make_config("lp", seed), test_accuracy=0.8 + 0.01 * seed)
    assert "lp has the same accuracy as the baseline with every seed" in _notes(tmp_path)


def test_spans_are_short():
    assert spans({0, 1, 2, 5, 7, 8}) == "0-2, 5, 7-8"


def test_nets_that_learned_little_are_told(tmp_path):
    write_cell(tmp_path / "few", make_config("max", trainer__batch_size=9000))
    said = _notes(tmp_path / "few")
    assert "An epoch has 5 steps only" in said
    assert "leaves out" not in said  # 50,000 images make 5 batches but for 5,000
    write_cell(tmp_path / "left", make_config("max", trainer__batch_size=8500))
    assert "Each epoch leaves out 15 % of the images, which make no whole batch" in _notes(tmp_path / "left")
    usual = make_runs(tmp_path / "usual", ["max", "lp"])
    assert not any(word in _notes(usual) for word in ("only:", "leaves out", "guessing"))
    for seed, accuracy in enumerate((0.1, 0.104, 0.09)):
        write_cell(tmp_path / "none", make_config("max", seed), test_accuracy=accuracy, largest_class_share=0.1)
    assert "All cells are at the level of guessing" in _notes(tmp_path / "none")
    write_cell(tmp_path / "none", make_config("lp", 0), test_accuracy=0.2, largest_class_share=0.1)
    assert "guessing" not in _notes(tmp_path / "none")
