"""What probes read, pool by pool, in tables and on pages."""

import numpy as np
import pandas as pd
import pytest

from poolbench.cli.published import refresh
from poolbench.configuration import ConfigError
from poolbench.records.collect import write_archive
from poolbench.records.read import read_records
from poolbench.report import write_report
from poolbench.report.probes import by_probe, probe_table
from poolbench.report.samples import samples_table
from poolbench.statistics.comparisons import compare
from tests.report.synthetic import make_config, write_cell

ASKED = {"rotate": [-10, 10], "consistency": [3], "site_shifts": [1]}
NAMES = ("test_accuracy_rotate_10", "consistency", "site_1_removed_1")


def make(folder, pools=("max", "average", "lp"), seeds=4, **changes):
    draw = np.random.default_rng(3)
    for pool in pools:
        for seed in range(seeds):
            numbers = dict(zip(NAMES, draw.uniform(0.4, 0.6, 3), strict=True))
            config = make_config(pool, seed, probe=ASKED, **changes)
            write_cell(folder, config, train_samples=config["data"].get("train_samples", 50_000), **numbers)
    return folder


@pytest.fixture(scope="module")
def reported(tmp_path_factory):
    folder = tmp_path_factory.mktemp("probes")
    return write_report(make(folder / "runs"), folder / "out")


def test_each_number_has_its_mean_and_its_difference_to_the_baseline(reported):
    table = pd.read_csv(reported.output / "probes.csv").set_index(["pool", "number"])
    assert len(table) == 9
    cells = reported.cells
    for number in NAMES:
        values = {
            pool: {(int(s), "0011223344"): v for s, v in zip(own["seed"], own[number], strict=True)}
            for pool, own in cells.groupby("pool")
        }
        expected = compare(values, "max")
        for pool, own in values.items():
            row = table.loc[(pool, number)]
            mean, sd = np.mean(list(own.values())), np.std(list(own.values()), ddof=1)
            assert row["mean"] == pytest.approx(mean)
            assert row["high"] - row["mean"] == pytest.approx(3.182446 * sd / 2, rel=1e-5)  # t of 3 degrees of freedom
            assert row["seeds"] == 4
            if pool == "max":
                assert np.isnan(row["difference"])
            else:
                found = (row["difference"], row["difference_low"], row["difference_high"])
                assert found == pytest.approx((expected[pool].difference.mean, *expected[pool].difference.interval()))


def test_the_summary_has_a_table_of_the_main_ones_in_percent(reported):
    text = (reported.output / "summary.md").read_text()
    own = reported.cells.loc[reported.cells["pool"] == "lp", "consistency"]
    margin = 3.182446 * own.std() / 2
    assert "## Probes: convnet, global_average, cifar10, 8 epochs" in text
    assert "| pool | `consistency` % |" in text
    assert f"| lp | {100 * own.mean():.2f} ± {np.ceil(1e4 * margin) / 100:.2f} |" in text
    assert "site_1_removed_1" not in text


def test_without_probes_there_is_no_table(tmp_path):
    write_cell(tmp_path / "runs", make_config())
    report = write_report(make(tmp_path / "probed"), tmp_path / "out")
    assert (tmp_path / "out/probes.csv") in report.files
    report = write_report(tmp_path / "runs", tmp_path / "out")
    assert by_probe(report.cells, "max").empty
    assert not (tmp_path / "out/probes.csv").exists()
    assert "Probes" not in (tmp_path / "out/summary.md").read_text()


def test_one_seed_has_no_margin_and_a_pool_without_a_number_a_dash(tmp_path):
    runs = make(tmp_path / "runs", seeds=1)
    write_cell(runs, make_config("stochastic", 0, probe=ASKED), consistency=0.5)
    cells = write_report(runs, tmp_path / "out").cells
    lines = probe_table(by_probe(cells, "max"), ["consistency", "site_1_removed_1"])
    assert lines[0] == "| pool | `consistency` % | `site_1_removed_1` |"
    assert "| stochastic | 50.00 ± – | – |" in lines


def test_a_number_that_no_probe_read_is_told(reported):
    with pytest.raises(ValueError, match=r"no probe read 'consistent'; there are: consistency, site_1_removed_1, test"):
        probe_table(by_probe(reported.cells, "max"), ["consistent"])


def published(root, marker, **changes):
    """A checkout with one page of docs and one of results."""
    runs = make(root / "runs")
    if changes:
        make(runs, seeds=2, **changes)
    (root / "results/one").mkdir(parents=True)
    write_archive(read_records(runs)[0], root / "results/one/records.jsonl")
    (root / "docs").mkdir()
    (root / "README.md").write_text("# Ours\n")
    (root / "docs/page.md").write_text(f"Before.\n\n<!-- {marker} -->\nold\n<!-- end -->\nAfter.\n")
    return root


def test_a_page_shows_the_numbers_that_it_names(tmp_path):
    root = published(tmp_path, "numbers: one consistency test_accuracy_rotate_10")
    assert "docs/page.md: brought up to date" in list(refresh(root))
    text = (root / "docs/page.md").read_text()
    lines = probe_table(pd.read_csv(root / "results/one/probes.csv"), ["consistency", "test_accuracy_rotate_10"])
    assert "\n".join(lines) in text
    assert "old" not in text
    assert text.endswith("<!-- end -->\nAfter.\n")
    assert not any("docs/page.md" in line for line in refresh(root))


def test_a_page_shows_the_gap_over_training_sets(tmp_path):
    root = published(tmp_path, "samples: one", data__train_samples=500)
    list(refresh(root))
    table = samples_table(pd.read_csv(root / "results/one/samples.csv"))
    assert len(table) > 5
    assert "\n".join(table).strip() in (root / "docs/page.md").read_text()


@pytest.mark.parametrize(
    ("marker", "changes", "said"),
    [
        ("samples: one", {}, r"one.samples.csv is named in docs.page.md and is not there"),
        ("numbers: one consistent", {}, r"probes.csv, named in docs.page.md: no probe read 'consistent'"),
        ("numbers: two consistency", {}, r"two.probes.csv is named in docs.page.md and is not there"),
        ("numbers: one consistency", {"optimizer__lr": 0.2}, r"named in docs.page.md and has 2 settings"),
    ],
)
def test_a_page_that_names_what_is_not_there_is_told(tmp_path, marker, changes, said):
    with pytest.raises(ConfigError, match=said):
        list(refresh(published(tmp_path, marker, **changes)))
