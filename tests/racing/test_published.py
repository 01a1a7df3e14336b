"""Published races: what fell when follows from the records beside them."""

import csv
import json
from pathlib import Path

import pytest

from poolbench.racing.run import accuracies, floors
from poolbench.records.read import read_records
from poolbench.statistics.race import look

FOLDERS = sorted(path.parent for path in (Path(__file__).parents[2] / "results/races").glob("*/race.json"))


def raced(folder):
    """Arm -> its records, by seed; the declaration; the rows of the table."""
    records, problems = read_records(folder / "cells.jsonl")
    assert problems == []
    arms = {}
    for record in sorted(records, key=lambda one: one.config["seed"]):
        arms.setdefault(record.config["names"]["pool"], []).append(record)
    with open(folder / "race.csv", newline="") as file:
        rows = {row["arm"]: row for row in csv.DictReader(file)}
    return arms, json.loads((folder / "race.json").read_text()), rows


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda path: path.name)
def test_what_fell_at_each_look_follows_from_the_records(folder):
    arms, said, rows = raced(folder)
    assert set(rows) == set(said["arms"])
    left = {arm for arm, row in rows.items() if not row["failed"]}
    looked = {int(row["blocks"]) for arm, row in rows.items() if arm in left}
    for blocks in sorted(looked):
        seen = {arm: arms[arm][:blocks] for arm in sorted(left)}
        found = look(accuracies(seen), said["difference"] / 100, len(said["looks"]), floors(seen), 0.0)
        fell = {arm for arm in left if rows[arm]["left"] == "False" and int(rows[arm]["blocks"]) == blocks}
        assert {one.arm for one in found.fallen} == fell
        left -= fell
    assert left == {arm for arm, row in rows.items() if row["left"] == "True"}


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda path: path.name)
def test_the_test_set_was_read_of_those_alone_that_were_left(folder):
    arms, _, rows = raced(folder)
    for arm, records in arms.items():
        assert all(record.result["test_accuracy"] is None for record in records)
        read = [record for record in records if record.probes]
        assert len(read) == int(rows[arm]["test_cells"])
        assert bool(read) == (rows[arm]["left"] == "True")
        assert all(record.environment["dirty"] is False for record in records)
