"""What a report says over nets, and image by image."""

import json

import numpy as np
import pandas as pd
import pytest

from poolbench.records.outcomes import compared, packed
from poolbench.report import write_report
from poolbench.report.summary import summarise
from poolbench.statistics.blocks import Difference
from poolbench.statistics.nets import over_nets
from tests.report.synthetic import make_config, write_cell

GAINS = {"convnet": 0.012, "resnet": 0.004, "vgg": 0.02, "nin": 0.009, "allcnn": 0.015}


def make(runs, nets, pools=("max", "lp", "average"), seeds=4, **changes):
    draw = np.random.default_rng(0)
    for net in nets:
        for seed in range(seeds):
            for pool in pools:
                gain = {"max": 0.0, "lp": GAINS[net], "average": -0.05}[pool]
                accuracy = round(0.8 + gain + draw.normal(0, 0.001), 4)
                config = make_config(
                    pool, seed, names__model=net, model__widths=[8 + list(GAINS).index(net)], **changes
                )
                write_cell(runs, config, test_accuracy=accuracy)


@pytest.fixture(scope="module")
def reported(tmp_path_factory):
    folder = tmp_path_factory.mktemp("nets")
    make(folder / "runs", GAINS)
    return folder, write_report(folder / "runs", folder / "out")


def test_the_row_over_nets_is_the_random_effects_mean_of_the_tables(reported):
    folder, report = reported
    lp = report.over.set_index("pool").loc["lp"]
    rows = report.summary[report.summary["pool"] == "lp"]
    own = [
        Difference(row.difference, row.blocks, row.difference_error, row.difference_df, pooled=True)
        for row in rows.itertuples()
    ]
    expected = over_nets(own)
    assert (lp["nets"], lp["difference"], lp["between"]) == (5, expected.mean, expected.between)
    assert (lp["net_low"], lp["net_high"]) == (expected.low, expected.high)
    assert lp["verdict"] == "higher"
    written = pd.read_csv(folder / "out/nets.csv").set_index("pool")
    assert written.loc["lp", "difference"] == lp["difference"]
    for text in (report.text, (folder / "out/summary.md").read_text()):
        assert "Over 5 nets" in text
        assert f"{100 * lp['net_low']:+.2f} to {100 * lp['net_high']:+.2f}" in text


def test_over_nets_the_best_is_told_by_how_pools_differ_from_net_to_net(reported):
    _, report = reported
    rows = report.over.set_index("pool")
    assert rows["among_best"].to_dict() == {"lp": True, "max": False, "average": False}
    assert rows["baseline"].to_dict() == {"lp": False, "max": True, "average": False}


def test_two_nets_are_too_few_and_settings_of_one_net_are_one(tmp_path):
    make(tmp_path / "runs", ["convnet", "resnet"])
    make(tmp_path / "runs", ["convnet"], trainer__epochs=9)
    report = write_report(tmp_path / "runs", tmp_path / "out")
    assert len(report.groups) == 3
    assert report.over.empty
    assert not (tmp_path / "out/nets.csv").exists()
    make(tmp_path / "runs", ["vgg"])
    over = write_report(tmp_path / "runs", tmp_path / "out").over.set_index("pool")
    assert over.loc["lp", "nets"] == 3
    assert np.isnan(over.loc["lp", "net_low"])
    assert (tmp_path / "out/nets.csv").exists()


def test_nets_without_max_are_told_against_native_and_count_in_no_row_over_max(tmp_path):
    make(tmp_path / "runs", list(GAINS)[:3])
    before = write_report(tmp_path / "runs", tmp_path / "out").over
    for seed in range(4):
        for pool in ("native", "lp"):
            write_cell(tmp_path / "runs", make_config(pool, seed, names__model="lenet", model__widths=[99]))
    report = write_report(tmp_path / "runs", tmp_path / "out")
    assert set(report.summary[report.summary["baseline"]]["pool"]) == {"max", "native"}
    pd.testing.assert_frame_equal(report.over, before)


def test_a_pool_in_few_nets_has_no_row(tmp_path):
    make(tmp_path / "runs", list(GAINS)[:3], pools=("max", "lp"))
    make(tmp_path / "runs", list(GAINS)[:2], pools=("average",))
    over = write_report(tmp_path / "runs", tmp_path / "out").over
    assert sorted(over["pool"]) == ["lp", "max"]


def with_outcomes(runs, pool, seed, right, labels):
    folder = write_cell(runs, make_config(pool, seed), test_accuracy=float(np.mean(right)), test_samples=len(right))
    (folder / "outcomes.json").write_text(json.dumps(packed(right.tolist(), labels.tolist(), 4)))


def test_images_and_classes_are_told(tmp_path):
    draw = np.random.default_rng(1)
    labels = np.arange(1000) % 4
    right = {}
    for seed in range(3):
        for pool, share in (("max", 0.7), ("lp", 0.8)):
            right[pool, seed] = draw.random(1000) < share + 0.05 * (labels == 2)
            with_outcomes(tmp_path / "runs", pool, seed, right[pool, seed], labels)
    report = write_report(tmp_path / "runs", tmp_path / "out")
    table = pd.read_csv(tmp_path / "out/classes.csv").set_index(["pool", "class"])
    two = [np.mean([right[pool, seed][labels == 2].mean() for seed in range(3)]) for pool in ("lp", "max")]
    assert table.loc[("lp", 2), "accuracy"] == pytest.approx(two[0])
    assert table.loc[("lp", 2), "difference"] == pytest.approx(two[0] - two[1])
    assert (table.loc[("lp", 2), "images"], table.loc[("lp", 2), "cells"]) == (250, 3)
    said = " ".join(report.groups[0][1])
    alone = np.mean([(right["lp", s] & ~right["max", s]).sum() for s in range(3)])
    assert f"Of 1,000 test images lp alone is right on {alone:,.0f} and max alone on" in said


def test_of_one_seed_the_margin_is_that_of_two_records(tmp_path):
    draw = np.random.default_rng(2)
    labels = np.arange(500) % 4
    found = [draw.random(500) < share for share in (0.7, 0.75)]
    for pool, right in zip(("max", "lp"), found, strict=True):
        with_outcomes(tmp_path / "runs", pool, 0, right, labels)
    spread = compared(*(packed(right.tolist(), labels.tolist(), 4) for right in found)).spread
    report = write_report(tmp_path / "runs", tmp_path / "out")
    assert f"would move by up to {1.96 * spread:.2f} points" in " ".join(report.groups[0][1])


def test_records_of_before_tell_no_images(tmp_path):
    make(tmp_path / "runs", ["convnet"])
    report = write_report(tmp_path / "runs", tmp_path / "out")
    assert not (tmp_path / "out/classes.csv").exists()
    assert "test images" not in " ".join(report.groups[0][1])


def test_the_summary_alone_gives_the_same_rows(reported):
    _, report = reported
    from poolbench.report.over_nets import over_all_nets

    again = over_all_nets(summarise(report.cells))
    pd.testing.assert_frame_equal(again, report.over)
