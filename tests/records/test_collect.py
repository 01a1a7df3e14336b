import json

import pandas as pd
import pytest

from poolbench.records.collect import collect, collect_metrics, columns, write_archive, write_csv
from poolbench.records.identity import run_id
from poolbench.records.read import Record, RecordError, read_record, read_records
from tests.report.synthetic import make_config, make_runs, write_cell


def _record(*args, **changes):
    config = make_config(*args, **changes)
    return Record(run_id=config["run_id"], path=".", config=config)


def _table(*records):
    return collect(records).set_index("run_id")


def test_a_row_a_cell_finished_or_not(tmp_path):
    make_runs(tmp_path)
    write_cell(tmp_path, make_config("gated"), state="failed")
    table = collect(read_records(tmp_path)[0])
    assert len(table) == 10
    assert table["state"].value_counts().to_dict() == {"done": 9, "failed": 1}
    assert table["test_accuracy"].notna().sum() == 9
    assert table[table["state"] == "failed"]["error"].tolist() == ["it broke"]


def test_columns_are_fixed_and_what_a_probe_measured_follows(tmp_path):
    plain = collect([read_record(write_cell(tmp_path / "a", make_config("max")))])
    probed = collect([read_record(write_cell(tmp_path / "b", make_config("max"), shift_consistency=0.9, a_probe=1))])
    assert plain.columns.tolist() == columns()
    assert probed.columns.tolist() == [*columns(), "a_probe", "shift_consistency"]
    assert collect([]).columns.tolist() == columns()


def test_numbers_keep_their_kind_when_some_cells_have_none(tmp_path):
    write_cell(tmp_path, make_config("max"))
    write_cell(tmp_path, make_config("lp"), state="running")
    table = collect(read_records(tmp_path)[0]).set_index("pool")
    assert table["parameters"].dtype == "Int64"
    assert table["dirty"].dtype == "boolean"
    assert table.loc["max", "parameters"] == 120_100
    assert pd.isna(table.loc["lp", "parameters"])


@pytest.mark.parametrize(
    "changes",
    [
        {"seed": 5},
        {"pool": "lp"},
        {"trainer__device": "cuda"},
        {"trainer__threads": 1},
        {"data__root": "elsewhere"},
        {"runs_dir": "elsewhere"},
        {"names__model": "renamed"},
        {"optimizer__lr": 0.10},
    ],
)
def test_cells_that_differ_in_pool_seed_place_or_name_share_a_group(changes):
    other = {"pool": "max", "seed": 0} | changes
    table = _table(_record("max", 0), _record(other.pop("pool"), other.pop("seed"), run_id="other", **other))
    assert table["group"].nunique() == 1


@pytest.mark.parametrize(
    "changes",
    [
        {"trainer__epochs": 9},
        {"optimizer__lr": 0.2},
        {"data__validation": 0.1},
        {"model__widths": [1]},
        {"head__hidden": [64]},
        {"trainer__precision": "bf16"},
    ],
)
def test_whatever_can_change_a_result_makes_a_group_with_a_text_of_its_own(changes):
    table = _table(_record("max", 0), _record("max", 0, **changes))
    assert table["group"].nunique() == 2
    assert table["setting"].nunique() == 2


def test_a_whole_number_is_the_same_setting_as_float():
    assert _table(_record("max", 0, optimizer__lr=1), _record("max", 1, optimizer__lr=1.0))["group"].nunique() == 1


def test_settings_say_an_optimizers_name_rather_than_its_options():
    muon = _record("max", 0, names__optimizer="muon", optimizer={"_target_": "x.muon", "lr": 0.02, "steps": 3})
    assert sorted(_table(_record("max", 0), muon)["setting"].str.rpartition(", ")[2]) == ["muon", "sgd"]


def test_settings_say_what_is_probed_rather_than_the_amounts():
    probed = [_record("max", 0, probe={"sizes": sides}) for sides in ([24, 32], [28])]
    texts = _table(_record("max", 0), probed[0])["setting"]
    assert sorted(texts.str.rpartition(", ")[2]) == ["no probes", "probes of size"]
    assert _table(*probed)["setting"].nunique() == 2


def test_what_a_probe_read_is_further_columns(tmp_path):
    shares = {"test_accuracy_rotate_-10": 0.5, "agreement_rotate_-10": 0.75, "test_accuracy_draws_12": 1.0}
    folders = [write_cell(tmp_path, make_config("lp"), **shares), write_cell(tmp_path, make_config("max"))]
    table = collect(map(read_record, folders)).set_index("pool")
    assert list(table.columns)[-3:] == sorted(shares)
    assert table.loc["lp", list(shares)].to_dict() == shares
    assert table.loc["max", list(shares)].isna().all()


@pytest.mark.parametrize("name", ["test_accuracy_size_24", "agreement_rotate_-10", "agreement_flip"])
@pytest.mark.parametrize("value", [1.5, -0.1, "0.5", True, [0.5]], ids=str)
def test_what_a_probe_read_is_a_share(tmp_path, name, value):
    with pytest.raises(RecordError, match=f"result: {name} is .*, not a number from 0 to 1"):
        read_record(write_cell(tmp_path, make_config("max"), **{name: value}))


def test_pools_of_one_label_are_told_apart_by_the_options_that_differ():
    records = [_record("lp", seed, pool__p=p) for p in (2.0, 3.0) for seed in (0, 1)]
    assert collect(records)["pool"].tolist() == ["lp(p=2.0)", "lp(p=2.0)", "lp(p=3.0)", "lp(p=3.0)"]


def test_options_join_those_that_the_label_shows_already():
    records = [_record("lp", 0, names__pool="lp(p=3.0)", pool__p=3.0, pool__norm=norm) for norm in ("sum", "mean")]
    assert collect(records)["pool"].tolist() == ["lp(p=3.0, norm=mean)", "lp(p=3.0, norm=sum)"]


def test_one_label_in_two_groups_stays_as_it_is():
    records = [_record("lp", 0, pool__p=2.0), _record("lp", 0, pool__p=3.0, trainer__epochs=9)]
    assert collect(records)["pool"].tolist() == ["lp", "lp"]


def test_a_list_of_pools_is_one_pool():
    both = [{"_target_": "a.Max", "k": 2}, {"_target_": "a.Average", "k": 2}]
    other = [{"_target_": "a.Max", "k": 2}, {"_target_": "a.Average", "k": 3}]
    records = [_record("max+average", 0, run_id=str(pool)) for pool in (both, other)]
    for record, pool in zip(records, (both, other), strict=True):
        record.config["pool"] = pool
    table = collect(records)
    assert table["pool"].tolist() == ["max+average(1.k=2)", "max+average(1.k=3)"]


def test_metrics_are_those_of_finished_cells(tmp_path):
    write_cell(tmp_path, make_config("max"))
    write_cell(tmp_path, make_config("lp"), state="running")
    curves = collect_metrics(read_records(tmp_path)[0])
    assert curves["pool"].unique().tolist() == ["max"]
    assert curves["epoch"].tolist() == list(range(1, 9))
    assert list(collect_metrics([]).columns[:5]) == ["run_id", "group", "pool", "seed", "epoch"]


def test_an_archive_has_the_same_bytes_in_whatever_order(tmp_path):
    records, _ = read_records(make_runs(tmp_path / "runs"))
    write_archive(records, tmp_path / "a.jsonl")
    write_archive(records[::-1], tmp_path / "b.jsonl")
    assert (tmp_path / "a.jsonl").read_bytes() == (tmp_path / "b.jsonl").read_bytes()
    ids = [json.loads(line)["run_id"] for line in (tmp_path / "a.jsonl").read_text().splitlines()]
    assert ids == sorted(ids)


def test_an_archive_names_no_place_of_a_machine(tmp_path):
    config = make_config("max", runs_dir="/home/ada/exp/runs", data__root="C:\\sets\\cifar", report_dir="report")
    status = {"state": "failed", "error": "no such folder: /home/ada/exp/runs/x"}
    write_archive([Record(run_id=config["run_id"], path=tmp_path, config=config, status=status)], tmp_path / "a.jsonl")
    again = json.loads((tmp_path / "a.jsonl").read_text())
    assert (again["config"]["runs_dir"], again["config"]["report_dir"]) == ("runs", "report")
    assert again["config"]["data"]["root"] == "cifar"
    assert again["status"]["error"] == "no such folder: runs/x"
    assert "ada" not in (tmp_path / "a.jsonl").read_text()
    # It is the same cell, and the record itself is as it was.
    assert run_id(again["config"]) == run_id(config)
    assert config["runs_dir"] == "/home/ada/exp/runs"


def test_an_archive_is_strict_json_even_when_a_loss_diverged(tmp_path):
    record = read_record(write_cell(tmp_path, make_config("max"), test_loss=float("nan")))
    write_archive([record], tmp_path / "records.jsonl")

    def refuse(constant):
        raise AssertionError(constant)

    content = json.loads((tmp_path / "records.jsonl").read_text(), parse_constant=refuse)
    assert content["result"]["test_loss"] is None


def test_a_table_written_and_read_again_has_the_same_numbers(tmp_path):
    table = collect(read_records(make_runs(tmp_path / "runs"))[0])
    write_csv(table, tmp_path / "cells.csv")
    again = pd.read_csv(tmp_path / "cells.csv")
    assert again.columns.tolist() == table.columns.tolist()
    assert (again["test_accuracy"] == table["test_accuracy"]).all()
    assert (again["images_per_second"] == table["images_per_second"]).all()


def test_a_write_that_fails_leaves_the_old_file_and_no_other(tmp_path):
    path = tmp_path / "records.jsonl"
    path.write_text("old")
    with pytest.raises(TypeError):
        write_archive([Record(run_id="x", path=path, config={"a": object()})], path)
    assert [entry.name for entry in tmp_path.iterdir()] == ["records.jsonl"]
    assert path.read_text() == "old"


def test_one_pool_under_two_labels_is_one_pool():
    records = [_record("lp", 0, names__pool="LpPool2d(p=2)"), _record("lp", 1)]
    assert collect(records)["pool"].tolist() == ["lp", "lp"]
