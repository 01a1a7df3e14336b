"""The numbers of a result are declared once, and what a training leaves is what is declared."""

import json

import pytest

from poolbench.records.fields import FIELDS, costs
from poolbench.records.probes import is_of_probe, is_share


def test_published_results_hold_what_is_declared_and_nothing_else(repo_root):
    for archive in sorted((repo_root / "results").glob("*/records.jsonl")):
        for line in archive.read_text(encoding="utf-8").splitlines():
            names = {name for name in json.loads(line)["result"] if not is_share(name) and not is_of_probe(name)}
            assert names - {"schema_version", "run_id", "probe"} <= FIELDS.keys(), archive


def test_costs_stand_in_an_order_that_leaves_no_two_at_one_place():
    places = [field.cost for field in costs()]
    assert places == list(range(1, len(places) + 1))


@pytest.mark.parametrize("field", FIELDS.values(), ids=lambda field: field.name)
def test_what_people_see_has_a_form_and_only_that(field):
    assert bool(field.title) == bool(field.form)
    assert not field.title or field.cost
