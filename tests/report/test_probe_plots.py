"""Figures of probes and of the gap, and the words that tell data sets apart."""

import numpy as np
import pandas as pd
import pytest

from poolbench.records.groups import alike_but_samples, data_set
from poolbench.records.probes import TRANSFORMS, names
from poolbench.report import probe_plots, write_report
from tests.report.synthetic import make_config, write_cell

POOLS = ["max", "average", "strided_conv"]
ASKED = {
    "sizes": [16, 32, 48],
    "scale": [0.8, 1.25],
    "translate_x": [0.5, 2],
    "translate_y": [1, 4],
    "rotate": [-10, 5, 20],
    "flip": ["horizontal"],
    "features": True,
    "consistency": [3, 2.5],
    "site_shifts": [0.5, 1],
    "information": True,
    "corruptions": ["noise", "fog"],
    "severities": [1, 5],
    "calibration": True,
}
SITES = 2


@pytest.fixture(scope="module")
def cells():
    draw = np.random.default_rng(0)
    # A net has numbers of the sites that it has: two here.
    asked = [name for name in names(ASKED) if "site_" not in name or int(name.split("site_")[1].split("_")[0]) <= SITES]
    rows = [
        {"pool": pool, "seed": seed, "test_accuracy": draw.uniform(0.7, 0.8), "epochs": 3}
        | dict(zip(asked, draw.uniform(0.2, 0.9, len(asked)), strict=True))
        for pool in POOLS
        for seed in range(3)
    ]
    return pd.DataFrame(rows)


def lines_of(axes, pool):
    """(x, y) of the lines in a pool's colour that have more than one point."""
    from poolbench.report.colours import styles

    colour = styles(POOLS)[pool].colour
    return [line.get_xydata() for line in axes.lines if line.get_color() == colour and len(line.get_xdata()) > 1]


def test_columns_are_those_of_probes_that_hold_a_number(cells):
    with_more = cells.assign(parameters=3, test_accuracy_rotate_90=np.nan)
    found = probe_plots.probe_columns(with_more)
    assert set(found) == set(cells.columns) - {"epochs"}
    assert probe_plots.probe_columns(cells[["pool", "seed", "test_accuracy", "epochs"]]) == []


def test_invariance_shows_the_means_over_seeds_at_every_amount(cells):
    figure = probe_plots.invariance_figure(cells, POOLS, "title")
    words = [word for word in TRANSFORMS.values() if word != "flip"]
    assert len(figure.axes) == 2 * len(words)
    for place, word in enumerate(words):
        amounts = sorted(ASKED["sizes" if word == "size" else word])
        for row, start in enumerate(("test_accuracy", "distance")):
            for pool in POOLS:
                own = cells[cells["pool"] == pool]
                expected = [100 * own[f"{start}_{word}_{amount:g}"].mean() for amount in amounts]
                (found,) = lines_of(figure.axes[row * len(words) + place], pool)
                assert np.allclose(found, np.stack([amounts, expected], 1))


def test_without_features_agreement_stands_below(cells):
    figure = probe_plots.invariance_figure(cells[[c for c in cells if "distance" not in c]], POOLS, "title")
    own = cells[cells["pool"] == "max"]
    (found,) = lines_of(figure.axes[5 + 4], "max")
    assert np.allclose(found[:, 1], [100 * own[f"agreement_rotate_{a}"].mean() for a in (-10, 5, 20)])
    assert "same class" in figure.axes[5].get_ylabel()


def test_robustness_names_each_corruption_shift_and_the_calibration(cells):
    figure = probe_plots.robustness_figure(cells, POOLS, "title")
    labels = [[text.get_text() for text in axes.get_yticklabels()] for axes in figure.axes]
    shifts = ["2.5 px, reflected", "3 px, reflected", "2.5 px, wrapped", "3 px, wrapped"]
    assert labels == [["noise", "fog", "all of these"], shifts, ["its expected error"]]
    own = 100 * cells.loc[cells["pool"] == "average", "circular_consistency_3"]
    spans = [found[:, 0] for found in lines_of(figure.axes[1], "average")]
    assert np.allclose(spans[3], [own.min(), own.max()])
    assert figure.axes[2].get_xlim()[0] == 0


def test_information_marks_each_pool_where_it_stands(cells):
    figure = probe_plots.information_figure(cells, POOLS, "title")
    assert len(figure.axes) == 2 * SITES
    own = cells[cells["pool"] == "strided_conv"]
    (found,) = lines_of(figure.axes[SITES + 1], "strided_conv")
    assert np.allclose(found, 100 * own[["site_2_aliased", "test_accuracy"]])


def test_sites_show_nets_after_and_before_training(cells):
    figure = probe_plots.sites_figure(cells, POOLS, "title")
    assert len(figure.axes) == SITES
    own = cells[cells["pool"] == "max"]
    trained, before = lines_of(figure.axes[1], "max")
    for found, who in ((trained, "site"), (before, "untrained_site")):
        expected = [100 * own[f"{who}_2_removed_{amount:g}"].mean() for amount in (0.5, 1)]
        assert np.allclose(found, np.stack([(0.5, 1), expected], 1))


def test_what_was_not_asked_for_has_no_figure(cells):
    draw = ("invariance_figure", "robustness_figure", "sites_figure", "information_figure")
    plain = cells[["pool", "seed", "test_accuracy"]]
    assert [getattr(probe_plots, name)(plain, POOLS, "title") for name in draw] == [None] * 4


def test_a_pool_without_a_number_leaves_its_place_empty(cells):
    one = cells.copy()
    numbers = [name for name in one if name not in ("pool", "seed", "test_accuracy", "epochs")]
    one.loc[one["pool"] == "average", numbers] = np.nan
    for name in ("invariance_figure", "robustness_figure", "sites_figure", "information_figure"):
        figure = getattr(probe_plots, name)(one, POOLS, "title")
        assert not any(lines_of(axes, "average") for axes in figure.axes)
        assert all(lines_of(axes, "max") for axes in figure.axes)


def test_a_report_draws_what_its_cells_were_asked(tmp_path, cells):
    for number, cell in enumerate(cells.to_dict("records")):
        folder = tmp_path / ("probed" if number < 6 else "alone")
        config = make_config(cell["pool"], cell["seed"], probe=ASKED)
        write_cell(folder, config, **{name: cell[name] for name in cells.columns[2:] if name != "epochs"})
    files = {path.name for path in write_report(tmp_path / "probed", tmp_path / "out").files}
    assert {f"{name}.svg" for name in ("invariance", "robustness", "sites", "information")} <= files
    write_cell(tmp_path / "plain", make_config())
    again = write_report(tmp_path / "plain", tmp_path / "out")
    assert not any("invariance" in path.name for path in again.files)
    assert not (tmp_path / "out/invariance.png").exists()


def subsets(folder, sizes, pools=("max", "average"), seeds=2, label="cifar10(train_samples={})", **changes):
    for size in sizes:
        for pool in pools:
            for seed in range(seeds):
                config = make_config(pool, seed, **changes)
                config["data"] |= {"train_samples": size}
                config["trainer"] |= {"epochs": 100_000 // (size or 50_000)}
                config["names"]["data"] = label.format(size) if size else "cifar10"
                config["run_id"] += f"-{size}-{len(changes)}"
                write_cell(folder, config, train_samples=size or 50_000, train_accuracy=0.95)
    return folder


def test_the_gap_is_drawn_over_training_sets_of_one_setting(tmp_path):
    report = write_report(subsets(tmp_path / "runs", [500, 5000, None]), tmp_path / "out")
    assert tmp_path / "out/gap.png" in report.files
    assert not any(path.name.startswith(("accuracy", "curves", "cost")) for path in report.files)
    table = pd.read_csv(tmp_path / "out/samples.csv")
    assert sorted(table["train_samples"]) == [500, 500, 5000, 5000, 50000, 50000]
    cells = report.cells.assign(panel="all", train_samples=report.cells["train_samples"].astype(float))
    for row in table.to_dict("records"):
        own = cells[(cells["pool"] == row["pool"]) & (cells["train_samples"] == row["train_samples"])]
        assert row["gap"] == pytest.approx(0.95 - own["test_accuracy"].mean())
        spread = 12.7062 * own["test_accuracy"].std() / np.sqrt(2)  # t of one degree of freedom
        assert row["gap_high"] - row["gap"] == pytest.approx(spread, rel=1e-4)
        shown = (
            f"{100 * row['gap']:+.2f} ± {np.ceil(1e4 * spread - 1e-3) / 100:.2f} ({100 * row['test_accuracy']:.2f} %)"
        )
        assert shown in (tmp_path / "out/summary.md").read_text()
    figure = probe_plots.gap_figure(cells, ["max", "average"], "title")
    own = cells[cells["pool"] == "average"].groupby("train_samples")
    (found,) = lines_of(figure.axes[0], "average")
    assert np.allclose(found[:, 0], [500, 5000, 50000])
    assert np.allclose(found[:, 1], 100 * (0.95 - own["test_accuracy"].mean()))
    (below,) = lines_of(figure.axes[1], "average")
    assert np.allclose(below[:, 1], 100 * own["test_accuracy"].mean())


def test_one_size_or_other_settings_have_no_gap_over_sizes(tmp_path):
    one = subsets(tmp_path / "runs", [500])
    subsets(one, [None], optimizer__lr=0.2)
    write_report(one, tmp_path / "out")
    assert not any((tmp_path / "out" / name).exists() for name in ("gap.png", "samples.csv"))
    assert "number of training images" not in (tmp_path / "out/summary.md").read_text()


def test_settings_are_told_apart_without_their_amounts():
    made = [
        make_config("max", 0, data__train_samples=size, trainer__epochs=epochs, optimizer__lr=rate)
        for size, epochs in ((500, 40), (5000, 4))
        for rate in (0.1, 0.2)
    ]
    found = list(alike_but_samples(made).values())
    assert len(found) == 4
    assert found[0] == found[2] != found[1] == found[3]
    assert found[0][1] == "convnet, global_average, cifar10, optimizer.lr=0.1"


@pytest.mark.parametrize(
    ("label", "name"),
    [
        ("cifar10", "cifar10"),
        ("cifar10(train_samples=500)", "cifar10"),
        ("shapes(image_size=20, train_samples=500)", "shapes(image_size=20)"),
        ("shapes(train_samples=500, image_size=20)", "shapes(image_size=20)"),
        ("shapes(test_samples=500)", "shapes(test_samples=500)"),
        ("shapes(train_samples=500,size=20)", "shapes(size=20)"),  # as configs label them
        ("cifar10(train_samples=500,test_samples=90)", "cifar10(test_samples=90)"),
        ("image_folder(size=20,train_samples=500)", "image_folder(size=20)"),
    ],
)
def test_parts_of_a_data_set_are_that_data_set(label, name):
    assert data_set(label) == name


def test_parts_of_a_data_set_are_no_further_nets(tmp_path):
    sizes, pools = [500, 2500, 10000, None], ("max", "lp")
    assert write_report(subsets(tmp_path / "parts", sizes, pools, 3), tmp_path / "out").over.empty
    others = write_report(subsets(tmp_path / "others", sizes, pools, 3, label="data{}"), tmp_path / "out").over
    assert set(others["nets"]) == {4}
