"""What was read of a cell later: where it lies, what is refused, and who sees it."""

import json

import pytest

from poolbench.claims.verdicts import judge
from poolbench.records.collect import collect, write_archive
from poolbench.records.later import file_of, numbers_of, wrong_later
from poolbench.records.read import read_record, read_records
from tests.claims.claimed import make_claims
from tests.report.synthetic import make_config, write_cell


def member(numbers, finished="2026-01-01T00:00:00+00:00", **probe):
    return {"schema_version": 1, "probe": probe or {"calibration": True}, "numbers": numbers, "finished": finished}


def put(folder, content):
    (folder / file_of(content["probe"])).write_text(json.dumps(content))


def test_its_name_is_that_of_what_was_asked():
    assert file_of({"rotate": [5]}) == file_of({"rotate": [5.0], "border": "reflect", "samples": None, "flip": []})
    assert file_of({"rotate": [5]}) != file_of({"rotate": [5], "border": "wrap"})
    assert file_of({"consistency": [3]}) == file_of({"consistency": [3], "border": "wrap"})  # it has borders of its own


def test_tables_archives_and_claims_see_it_and_the_result_stays(tmp_path):
    for pool, error in (("max", 0.1), ("overlapping", 0.05)):
        for seed in range(3):
            folder = write_cell(tmp_path / "runs", make_config(pool, seed))
            before = (folder / "result.json").read_bytes()
            put(folder, member({"calibration_error": error + 0.001 * seed, "test_accuracy": 0.99}))
            assert (folder / "result.json").read_bytes() == before
    records, problems = read_records(tmp_path / "runs")
    assert not problems
    table = collect(records)
    assert sorted(set(table["calibration_error"].round(2))) == [0.05, 0.1]
    assert (table["test_accuracy"] < 0.9).all()  # the result's own numbers come first
    write_archive(records, tmp_path / "records.jsonl")
    again, problems = read_records(tmp_path / "records.jsonl")
    assert not problems
    assert [record.probes for record in again] == [record.probes for record in records]
    assert [record.numbers for record in again] == [record.numbers for record in records]
    claim = {"metric": "calibration_error", "direction": "lower", "wider_than_paper": None}
    (one,) = judge(make_claims(tmp_path, claim | {"kind": "not_worse"}), again)
    assert one.gain.mean == pytest.approx(0.05)


def test_of_a_number_that_was_read_twice_the_later_counts():
    members = [
        member({"a": 1.0, "b": 2.0}, "2026-01-02T00:00:00+00:00"),
        member({"a": 3.0, "c": 4.0}, "2026-01-01T00:00:00+00:00", consistency=[3]),
    ]
    assert numbers_of(members) == numbers_of(members[::-1]) == {"a": 1.0, "b": 2.0, "c": 4.0}


def test_a_record_that_is_there_twice_has_what_was_read_of_either(tmp_path):
    for place, number in (("here", "a"), ("there", "b")):
        folder = write_cell(tmp_path / place, make_config("max", 0))
        put(
            folder, member({number: 1.0}, calibration=True) if number == "a" else member({number: 1.0}, consistency=[3])
        )
    (record,), problems = read_records([tmp_path / "here", tmp_path / "there"])
    assert not problems
    assert {"a", "b"} <= record.numbers.keys()


@pytest.mark.parametrize(
    ("members", "words"),
    [
        ({}, "not a list of mappings"),
        ([1], "not a list of mappings"),
        ([{"numbers": {}}], "must have probe"),
        ([{"probe": {}, "numbers": [1]}], "must have probe"),
        ([member({"<b>": 1.0})], "no name of a number"),
        ([member({"a": "1"})], "a is 1, not a number"),
        ([member({"a": float("nan")})], "not a number"),
        ([member({"a": 1e300})], "not a number"),
        ([member({"a": True})], "not a number"),
        ([member({"consistency_3": 1.5})], "consistency_3 is 1.5, not a share"),
        ([member({f"n{i}": 1 for i in range(20_001)})], "20,001 numbers"),
    ],
)
def test_what_is_no_answer_is_told(members, words, tmp_path):
    assert words in wrong_later(members)


def test_a_damaged_member_is_a_problem_and_hides_no_other_record(tmp_path):
    folder = write_cell(tmp_path, make_config("max", 0))
    write_cell(tmp_path, make_config("lp", 0))
    (folder / "probe-0123456789.json").write_text('{"probe": {}')
    records, problems = read_records(tmp_path)
    assert [record.config["names"]["pool"] for record in records] == ["lp"]
    assert "probe-0123456789.json" in str(problems[0])


def test_a_cell_that_has_not_finished_has_no_numbers(tmp_path):
    folder = write_cell(tmp_path, make_config("max", 0), state="running")
    put(folder, member({"a": 1.0}))
    assert read_record(folder).numbers == {}
