"""What differs between two records is found, and nothing else."""

import json

import pytest

from poolbench.records.collect import write_archive
from poolbench.records.difference import MEASURED, difference
from poolbench.records.find import find_run
from poolbench.records.read import read_record, read_records
from tests.report.synthetic import make_config, write_cell

SECTIONS = ("config", "outside", "environment", "result", "measured", "epoch")


def rewrite(path, **values):
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


@pytest.fixture
def pair(tmp_path):
    """Two folders of the same cell with the same result."""
    config = make_config("max")
    return [write_cell(tmp_path / side, config) for side in ("a", "b")]


def found(pair):
    return difference(*map(read_record, pair))


def test_nothing_differs_between_a_record_and_itself(pair):
    result = found(pair)
    assert [result[section] for section in SECTIONS] == [{}] * len(SECTIONS)
    assert result["same_cell"]
    assert result["same_result"]
    assert result["parts_in_epoch"] is None
    assert result["test_accuracy_points"] == 0


@pytest.mark.parametrize("name", MEASURED)
def test_what_is_measured_anew_makes_no_other_result(pair, name):
    rewrite(pair[1] / "result.json", **{name: True if name == "mixed_environment" else 7 if name != "finished" else ""})
    result = found(pair)
    assert list(result["measured"]) == [name]
    assert result["result"] == {}
    assert result["same_result"]


@pytest.mark.parametrize("name", ["test_accuracy", "test_loss", "train_loss", "parameters", "forward_flops"])
def test_another_number_is_another_result(pair, name):
    rewrite(pair[1] / "result.json", **{name: 0.5 if name.endswith("y") else 12345})
    result = found(pair)
    assert list(result["result"]) == [name]
    assert not result["same_result"]
    assert result["same_cell"]


def test_one_bit_in_one_epoch_is_another_result(pair):
    metrics = pair[1] / "metrics.csv"
    lines = metrics.read_text().splitlines(keepends=True)
    lines[3] = lines[3].replace(",1.0,", ",1.0000000000000002,")
    metrics.write_text("".join(lines))
    result = found(pair)
    assert result["parts_in_epoch"] == 3
    assert result["epoch"] == {}
    assert not result["same_result"]


def test_the_time_of_an_epoch_is_no_part_of_the_curve(pair):
    metrics = pair[1] / "metrics.csv"
    metrics.write_text(metrics.read_text().replace(",30.0,", ",31.0,"))
    result = found(pair)
    assert result["parts_in_epoch"] is None
    assert list(result["epoch"]) == ["seconds"]
    assert result["same_result"]


def test_options_are_named_and_told_from_places(tmp_path):
    a = write_cell(tmp_path, make_config("lp", pool__p=2.0, pool__norm="mean"))
    b = write_cell(tmp_path, make_config("lp", pool__p=3.0, trainer__device="cpu", runs_dir="other", run_id="b"))
    result = found([a, b])
    assert result["config"] == {"pool.p": {"a": 2.0, "b": 3.0}, "pool.norm": {"a": "mean"}}
    assert result["outside"] == {
        "trainer.device": {"a": "auto", "b": "cpu"},
        "runs_dir": {"a": "runs", "b": "other"},
    }
    assert not result["same_cell"]


def test_an_option_that_came_later_is_no_difference_where_it_says_what_was_done_before(tmp_path):
    old = write_cell(tmp_path / "a", make_config("max"))
    new = write_cell(tmp_path / "b", make_config("max", trainer__weight_averaging=0.0, trainer__sizes=None))
    assert found([old, new])["config"] == {}
    newer = write_cell(tmp_path / "c", make_config("max", trainer__weight_averaging=0.9))
    assert found([old, newer])["config"] == {"trainer.weight_averaging": {"a": 0.0, "b": 0.9}}


def test_environments_are_compared_but_for_the_time_of_day(tmp_path):
    config = make_config("max")
    a = write_cell(tmp_path / "a", config, environment={"created": "then", "flags": {"x": 1}})
    b = write_cell(tmp_path / "b", config, environment={"created": "now", "flags": {"x": 2}, "threads": 1})
    assert found([a, b])["environment"] == {"threads": {"a": 2, "b": 1}, "flags.x": {"a": 1, "b": 2}}


def test_a_cell_that_is_not_done_has_no_result_to_be_the_same(tmp_path):
    config = make_config("max")
    done, running = write_cell(tmp_path / "a", config), write_cell(tmp_path / "b", config, state="running")
    for pair in ([done, running], [running, done], [running, running]):
        result = found(pair)
        assert not result["same_result"]
        assert result["test_accuracy_points"] is None


def test_a_line_of_an_archive_is_found_by_its_place_and_the_same(tmp_path):
    for seed in range(2):
        write_cell(tmp_path / "runs", make_config("max", seed, run_id=f"max-s{seed}-0{seed}abc"))
    records, _ = read_records(tmp_path / "runs")
    write_archive(records, tmp_path / "published/records.jsonl")
    for place in ("published", "published/records.jsonl", "runs"):
        for name in ("max-s1-01abc", "max-s1", "01abc"):
            record = find_run(f"{tmp_path / place}:{name}", tmp_path / "nowhere")
            assert record.run_id == "max-s1-01abc"
            result = difference(records[1], record)
            assert result["same_result"]
            assert result["config"] == {}
    for name, words in (("max", "2 records"), ("min", "no record"), ("", "2 records")):
        with pytest.raises(ValueError, match=words):
            find_run(f"{tmp_path / 'published'}:{name}", tmp_path)
    (tmp_path / "runs/max-s0-00abc/config.yaml").write_text("x: [")
    with pytest.raises(ValueError, match=r"max-s0 cannot be read: config\.yaml"):
        find_run("max-s0", tmp_path / "runs")
