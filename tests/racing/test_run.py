"""A race is decided from records: it drops what is surely worse, and being stopped changes nothing."""

from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest

from poolbench.configuration import ConfigError
from poolbench.racing.declared import declare, make_race
from poolbench.racing.run import (
    HOURS,
    LAST_LOOK,
    NONE_LEFT,
    ONE_LEFT,
    SETTLED,
    Unfinished,
    accuracies,
    open_cells,
    records_of,
    run_race,
)
from poolbench.racing.told import halving, rows
from tests.report.synthetic import write_cell
from tests.sweep.tiny import TINY

ARMS = "pool=max,average,lp,subsample"
MEANS = {"max": 0.80, "average": 0.798, "lp": 0.76, "subsample": 0.70}


class Made:
    """Trains by writing records with made-up validation accuracies; stops after ``most`` cells, as when killed."""

    def __init__(self, means=MEANS, most=None, broken=(), noise=0.004, fingerprints=None):
        self.means, self.most, self.broken, self.noise = means, most, broken, noise
        self.fingerprints = fingerprints or {}
        self.trained = []

    def __call__(self, plan):
        failed = {}
        for cell in open_cells(plan).cells:
            if self.most is not None and len(self.trained) >= self.most:
                return failed
            self.trained.append(cell.run_id)
            pool, seed, epochs = cell.config["names"]["pool"], cell.config["seed"], cell.trainer.epochs
            lost = pool in self.broken
            own = np.random.default_rng([seed, epochs, *pool.encode()]).normal(0, self.noise)
            accuracy = self.means[pool] + np.random.default_rng(seed).normal(0, 0.01) + own
            result = {"validation_accuracy": float(accuracy), "validation_samples": 5000, "test_accuracy": None}
            where = {"fingerprint": self.fingerprints.get((pool, seed), "here")}
            state = "failed" if lost else "done"
            write_cell(Path(cell.config["runs_dir"]), cell.config, state, where, **result)
            if lost:
                failed[cell.run_id] = "it broke"
        return failed


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def race(*words, looks="[3,5,8]", arms=ARMS):
    cheap = any(word.startswith("race.epochs") for word in words)
    tiny = [word for word in TINY if not (cheap and word.startswith("trainer.epochs"))]
    return make_race([arms, *tiny, f"race.looks={looks}", *words])


def test_what_is_surely_worse_falls_and_gets_no_further_cell():
    own, train, seen = race(), Made(), []
    outcome = run_race(own, train, seen.append)
    assert set(outcome.left) <= {"max", "average"}
    fell = {one.arm: one for one in outcome.gone}
    assert fell["subsample"].blocks == 3
    for arm, one in fell.items():
        assert one.rival in own.arms
        assert one.gain.mean > 0
        assert sum(run_id.startswith(f"{arm}-") for run_id in train.trained) == one.blocks
    assert outcome.cells == outcome.full_cells == len(train.trained) < len(own.arms) * 8
    assert tuple(seen) == outcome.steps
    assert [step.blocks for step in seen] == [3, 5, 8][: len(seen)]


def test_stopped_anywhere_it_goes_on_to_the_same_end():
    whole = run_race(race("runs_dir=whole"), train := Made(), lambda step: None)
    own, trained, told = race(), [], None
    while told is None or told.end == HOURS:
        part = Made(most=5)
        with suppress(Unfinished):
            told = run_race(own, part)
        assert part.trained  # each call comes further
        trained += part.trained
    assert told == whole
    assert sorted(trained) == sorted(train.trained)
    again = Made()
    assert run_race(own, again) == whole
    assert again.trained == []


def test_an_arm_that_fails_falls_with_its_reason_and_the_others_go_on():
    outcome = run_race(race(), train := Made(broken=("lp",)))
    (lost,) = [one for one in outcome.gone if one.reason]
    assert (lost.arm, lost.reason, lost.rival, lost.blocks) == ("lp", "it broke", None, 3)
    assert "subsample" in {one.arm for one in outcome.gone}
    assert sum(run_id.startswith("lp-") for run_id in train.trained) == 3
    (row,) = [row for row in rows(race(), outcome, {}) if row["arm"] == "lp"]
    assert (row["failed"], row["left"], row["cells"]) == ("it broke", False, 0)


def test_it_ends_when_all_but_one_or_all_have_failed():
    one = run_race(race(), Made(broken=("lp", "average", "subsample")))
    assert (one.left, one.end, one.steps[-1].look) == (("max",), ONE_LEFT, None)
    none = run_race(race("runs_dir=others"), Made(broken=tuple(MEANS)))
    assert (none.left, none.end) == ((), NONE_LEFT)


def test_when_the_hours_are_up_what_the_last_look_left_is_left():
    with pytest.raises(Unfinished):
        run_race(race(), Made(most=11))
    alike = {**MEANS, "lp": 0.799, "subsample": 0.8}
    outcome = run_race(race(), Made(alike, most=3))
    assert (outcome.end, outcome.blocks, len(outcome.steps)) == (HOURS, 3, 1)
    assert outcome.left == outcome.steps[0].left
    assert outcome.cells == 14  # two of a block that was not looked at


def test_it_ends_at_the_last_look_or_when_it_is_settled():
    alike = dict.fromkeys(MEANS, 0.8)
    last = run_race(race("race.difference=0.01"), Made(alike))
    assert (last.end, last.blocks, len(last.left)) == (LAST_LOOK, 8, 4)
    settled = run_race(race("race.difference=20"), Made(alike))
    assert (settled.end, settled.blocks) == (SETTLED, 3)
    told = halving(race(), last)
    assert told.blocks > 8
    assert (told.cells is None) == np.isinf(told.blocks)


def test_a_cheap_budget_drops_only_what_is_far_behind_and_the_full_one_begins_anew():
    own = race("race.epochs=[1,2]", "race.cheap_difference=5")
    outcome = run_race(own, train := Made())
    cheap, first = outcome.steps[:2]
    assert own.budgets[cheap.budget].cheap
    assert [(one.arm, one.budget) for one in cheap.gone] == [("subsample", 0)]
    assert not own.budgets[first.budget].cheap
    assert "lp" in {*first.left, *(one.arm for one in first.gone)}  # 4 points are within the 5
    assert outcome.cells - outcome.full_cells == 4 * 3
    assert len(train.trained) == outcome.cells
    assert {cell.trainer.epochs for cell in own.full.cells["max"]} == {2}


def test_who_alone_passes_the_cheap_budget_is_trained_in_full_all_the_same():
    own = race("race.epochs=[1,2]", "race.cheap_difference=0.01", arms="pool=max,subsample")
    outcome = run_race(own, Made())
    assert (outcome.left, outcome.end, outcome.blocks, outcome.full_cells) == (("max",), ONE_LEFT, 3, 3)


def test_a_block_counts_where_all_arms_met_on_one_kind_of_processor():
    outcome = run_race(race(looks="[4]"), Made(fingerprints={("max", 0): "there"}))
    assert (outcome.steps[0].blocks, outcome.steps[0].look.blocks) == (4, 3)
    apart = Made(fingerprints={("max", seed): "there" for seed in range(3)})
    with pytest.raises(Unfinished, match="of 4 blocks 1 were trained whole"):
        run_race(race("runs_dir=others", looks="[4]"), apart)


def test_rows_tell_what_the_records_hold():
    own = race()
    outcome = run_race(own, Made())
    told = {row["arm"]: row for row in rows(own, outcome, {outcome.left[0]: [0.5, 0.7]})}
    assert list(told)[: len(outcome.left)] == list(outcome.left)
    for arm, row in told.items():
        values = accuracies(records_of(own.full, [arm], row["blocks"]))[arm].values()
        assert row["validation_accuracy"] == pytest.approx(np.mean(list(values)))
        assert row["cells"] == len(values)
        assert row["parameters"] > 0
        if not row["left"]:
            assert row["by_low"] < row["by"] < row["by_high"]
    best = told[outcome.left[0]]
    assert (best["test_accuracy"], best["test_cells"]) == (pytest.approx(0.6), 2)
    assert all(row["test_accuracy"] is None for arm, row in told.items() if arm != outcome.left[0])


def test_a_declaration_holds_for_all_calls():
    declare(race())
    declare(race("hours=2"))
    declare(race())
    for words, said in (
        (["race.difference=1"], "difference 0.5, now 1"),
        (["trainer.batch_size=10"], "another recipe or data for max"),
    ):
        own = [word for word in TINY if word.partition("=")[0] != words[0].partition("=")[0]]
        with pytest.raises(ConfigError, match=said):
            declare(make_race([ARMS, *own, "race.looks=[3,5,8]", *words]))
    with pytest.raises(ConfigError, match=r"looks \[3, 5, 8\], now \[3, 5\].*race.name=ANOTHER"):
        declare(race(looks="[3,5]"))
    with pytest.raises(ConfigError, match="without subsample and with mixed"):
        declare(race(arms="pool=max,average,lp,mixed"))
    declare(race("race.name=another", looks="[3,5]"))


def test_of_all_that_there_are_those_that_do_not_fit_fall_and_those_that_are_named_are_refused():
    own = make_race(["head=all", "head.hidden=[4]", *TINY, "race.looks=[2]"])
    assert {"global_average"} <= set(own.arms)
    assert own.refused
    assert not set(own.arms) & set(own.refused)
    assert all("hidden" in why for why in own.refused.values())
    name = next(iter(own.refused))
    with pytest.raises(ConfigError, match="hidden"):
        make_race([f"head=global_average,{name}", "head.hidden=[4]", *TINY])


def test_heads_and_options_are_arms_where_pools_do_not_vary():
    assert race(arms="head=global_average,global_max").arms == ("global_average", "global_max")
    assert race(arms="optimizer.lr=0.1,0.2").arms == ("optimizer.lr=0.1", "optimizer.lr=0.2")
    (first, *_) = race(arms="pool=max,lp").full.cells["lp"]
    assert first.config["data"]["validation"] == 0.1
