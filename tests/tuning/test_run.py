"""A search: the same points and budget for all, decided from records alone, whatever interrupts it."""

import dataclasses
import hashlib
import itertools
import json
import math
import shutil
from pathlib import Path

import numpy as np
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from poolbench.configuration import ConfigError
from poolbench.records.read import read_record
from poolbench.records.state import DONE
from poolbench.sweep.plan import make_plan
from poolbench.sweep.workers import run_plan
from poolbench.tuning.run import Unfinished, entry, open_cells, run_search
from poolbench.tuning.rungs import Rung, Score, make_rungs, ranked, sides, survivors
from poolbench.tuning.search import SEED, make_search
from poolbench.tuning.space import grid_points, random_points, read_parameter

TINY = [
    "data=shapes",
    "data.train_samples=60",
    "data.test_samples=20",
    "data.size=16",
    "model=convnet_small",
    "trainer.epochs=9",
    "trainer.batch_size=20",
]
RATE = "optimizer.lr=log(0.001,1.0)"


@pytest.fixture(autouse=True)
def _in_an_empty_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


class Killed(BaseException):
    pass


class Trainer:
    """Leaves records as cells do, at once, with an accuracy that follows from the config alone.

    Args:
        lives: cells that it leaves before it is killed.
        fails: whether the cell of a config fails, and whether that lasts.
    """

    def __init__(self, lives=math.inf, fails=lambda config: None):
        self.lives, self.fails = lives, fails
        self.trained, self.waves = [], []

    def __call__(self, wave):
        self.waves.append(wave)
        failed = {}
        for cell in open_cells(wave).cells:
            if len(self.trained) == self.lives:
                raise Killed
            self.trained.append(cell.run_id)
            kind = self.fails(cell.config)
            leave(cell, None if kind else accuracy_of(cell.config), lasting=kind == "lasting")
            if kind:
                failed[cell.run_id] = "it broke"
        return failed


def accuracy_of(config):
    """Best near 0.1 for max and near 0.02 for all others, a little better the longer, and no two alike."""
    best = {"MaxPool2d": -1.0}.get(config["pool"]["_target_"].rpartition(".")[2], -1.7)
    text = f"{config['pool']} {config['optimizer']} {config['trainer']['epochs']} {config['seed']}"
    noise = hashlib.sha256(text.encode()).digest()[0] / 255e3
    return 0.8 - 0.1 * abs(math.log10(config["optimizer"]["lr"]) - best) + 0.001 * config["trainer"]["epochs"] + noise


def leave(cell, accuracy, lasting=False):
    head = {"schema_version": 1, "run_id": cell.run_id}
    epochs = cell.config["trainer"]["epochs"]
    cell.folder.mkdir(parents=True, exist_ok=True)
    (cell.folder / "config.yaml").write_text(yaml.safe_dump(cell.config))
    (cell.folder / "environment.json").write_text(json.dumps({"commit": "abc", "poolbench": "0.1.0"}))
    status = {**head, "state": "done" if accuracy else "failed", "error": None if accuracy else "it broke"}
    (cell.folder / "status.json").write_text(json.dumps({**status, "lasting": lasting}))
    if accuracy:
        row = {"epoch": epochs, "train_accuracy": accuracy, "validation_accuracy": accuracy}
        (cell.folder / "metrics.csv").write_text(f"{','.join(row)}\n{','.join(map(str, row.values()))}\n")
        result = {**head, "epochs": epochs, "test_accuracy": None, "validation_accuracy": accuracy}
        result |= {"validation_loss": 1.0, "validation_samples": 6}
        (cell.folder / "result.json").write_text(json.dumps(result))


def search_of(pools="max,average", *more, params=(RATE,), **options):
    return make_search([f"pool={pools}", *TINY, *more], list(params), **options)


def lr(config):
    return config["optimizer"]["lr"]


def test_every_treatment_gets_the_same_trials_with_the_same_budget():
    trainer = Trainer()
    search = search_of("max,average,lp", trials=6)
    run_search(search, trainer)
    for wave, rung in zip(trainer.waves, search.rungs, strict=True):
        rates = [
            sorted(lr(cell.config) for (place, *_), cell in wave.cells.items() if place == treatment)
            for treatment in range(3)
        ]
        assert [len(own) for own in rates] == [rung.trials] * 3
        assert {cell.config["trainer"]["epochs"] for cell in wave.plan.cells} == {rung.epochs}
        if wave.rung == 0:
            assert rates[0] == rates[1] == rates[2]  # paired; later rungs have each treatment's best
    assert search.rungs[-1].epochs == 9


def test_trials_never_read_the_test_set_and_hold_out_images_to_choose_by():
    trainer = Trainer()
    run_search(search_of(trials=3), trainer)
    for cell in trainer.waves[0].plan.cells:
        assert cell.config["trainer"]["test"] is False
        assert cell.config["data"]["validation"] > 0
        assert cell.config["seed"] == SEED  # no seed that a comparison usually has


def test_the_best_of_a_rung_go_on_and_the_best_of_the_last_one_wins():
    search = search_of(trials=9)
    for outcome in run_search(search, Trainer()):
        first, last = outcome.scores
        best = sorted(first, key=lambda trial: -first[trial].accuracy)[: search.rungs[1].trials]
        assert sorted(last) == sorted(best)
        assert last[outcome.winner].accuracy == max(score.accuracy for score in last.values())
        assert {lr(cell.config) for cell in outcome.cells} == {float(outcome.points[outcome.winner][0])}


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """What a search that nothing interrupts trains, in order, and what it finds."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("undisturbed"))
        trainer = Trainer()
        return trainer.trained, run_search(search_of(trials=4, eta=2), trainer)


@pytest.mark.parametrize("lives", [0, 5, 7, 8, 11])  # of 8 cells in the first rung and 4 in the second
def test_killed_anywhere_it_goes_on_to_the_same_end_and_repeats_nothing(lives, undisturbed):
    trained, expected = undisturbed
    assert len(trained) == len(set(trained)) == 12
    killed = Trainer(lives=lives)
    with pytest.raises(Killed):
        run_search(search_of(trials=4, eta=2), killed)
    again = Trainer()
    outcomes = run_search(search_of(trials=4, eta=2), again)
    assert killed.trained + again.trained == trained
    assert [(o.winner, o.points, o.scores) for o in outcomes] == [(o.winner, o.points, o.scores) for o in expected]


def test_what_was_trained_counts_for_a_search_with_more_trials_and_for_another_treatment():
    run_search(search_of("max,average", trials=3), Trainer())
    more = Trainer()
    run_search(search_of("max,average", trials=5, eta=5), more)
    assert len(more.trained) == 2 * 2  # all in full as before; the first points are the same
    other = Trainer()
    run_search(search_of("max,average,lp", trials=5, eta=5), other)
    assert len(other.trained) == 5


def test_a_failed_trial_is_the_worst_and_stops_nothing():
    rates = sorted(float(point[0]) for point in random_points([read_parameter(RATE)], 9, 0))
    best = min(rates, key=lambda rate: abs(math.log10(rate) + 1))  # it would have won for max
    trainer = Trainer(fails=lambda config: "lasting" if lr(config) == best else None)
    outcomes = run_search(search_of("max", trials=9), trainer)
    assert len(trainer.trained) == 9 + 3
    assert float(outcomes[0].points[outcomes[0].winner][0]) != best
    failed = [score for score in outcomes[0].scores[0].values() if score.accuracy is None]
    assert [score.failed for score in failed] == ["it broke"]


def test_a_treatment_of_which_all_trials_fail_has_no_winner_and_the_others_do():
    def fails(config):
        return "lasting" if "Average" in config["pool"]["_target_"] else None

    good, bad = run_search(search_of("max,average", trials=4, eta=2), Trainer(fails=fails))
    assert good.winner is not None
    assert bad.winner is None


def test_what_diverged_is_not_trained_again_and_what_broke_by_chance_is():
    lasting = Trainer(fails=lambda config: "lasting" if lr(config) > 0.1 else None)
    run_search(search_of("max", trials=4, eta=4), lasting)
    again = Trainer()
    run_search(search_of("max", trials=4, eta=4), again)
    assert again.trained == []
    shutil.rmtree("runs")
    chance = Trainer(fails=lambda config: "chance" if lr(config) > 0.1 else None)
    first = run_search(search_of("max", trials=4, eta=4), chance)
    broken = [trial for trial, score in first[0].scores[0].items() if score.accuracy is None]
    assert broken
    again = Trainer()
    outcomes = run_search(search_of("max", trials=4, eta=4), again)
    assert len(again.trained) == len(broken)
    assert all(score.accuracy is not None for score in outcomes[0].scores[0].values())


def test_cells_that_are_neither_done_nor_failed_end_the_search_for_now():
    seen = []
    with pytest.raises(Unfinished):
        run_search(search_of(), lambda wave: seen.append(wave) or {})
    assert len(seen) == 1


def test_several_seeds_count_together():
    search = search_of("max", "seed=5,6", trials=3)
    (outcome,) = run_search(search, Trainer())
    assert search.seeds == (5, 6)
    assert [cell.config["seed"] for cell in outcome.cells] == [5, 6]
    wanted = [read_record(cell.folder).result["validation_accuracy"] for cell in outcome.cells]
    assert outcome.scores[-1][outcome.winner].accuracy == pytest.approx(sum(wanted) / 2)
    assert outcome.scores[-1][outcome.winner].images == 12


def test_options_of_several_groups_are_searched_together():
    rest = ["trainer.label_smoothing=0,0.1,0.2", "schedule.warmup=uniform(0,0.5)", "optimizer.momentum=0,0.5"]
    trainer = Trainer()
    run_search(search_of("max", params=[RATE, *rest], trials=4, eta=4), trainer)
    cells = trainer.waves[0].plan.cells
    for group, option in (("schedule", "warmup"), ("optimizer", "lr")):
        assert len({cell.config[group][option] for cell in cells}) == 4
    assert {cell.config["optimizer"]["momentum"] for cell in cells} == {0, 0.5}


def test_a_short_rung_of_a_growing_size_sees_all_sizes():
    listed = [12, 16, 16, 20, 20, 24, 28, 30, 32]
    trainer = Trainer()
    run_search(search_of("max", f"trainer.sizes=[{','.join(map(str, listed))}]", trials=4), trainer)
    assert [wave.plan.cells[0].config["trainer"]["sizes"] for wave in trainer.waves] == [[12, 20, 32], listed]


def test_the_winner_is_written_with_what_it_takes_to_trust_it():
    search = search_of("max,average", "optimizer=adamw", trials=4, eta=2)
    outcomes = run_search(search, Trainer())
    for outcome in outcomes:
        found = entry(search, outcome)
        assert found["set"] == {"optimizer": "adamw", "optimizer.lr": float(outcome.points[outcome.winner][0])}
        assert found["match"]["pool"] == outcome.treatment.label
        assert found["from"]["accuracy"] == outcome.scores[-1][outcome.winner].accuracy
        assert found["from"]["commit"] == "abc"
        assert found["from"]["trials"] == 4
        assert yaml.safe_load(yaml.safe_dump(found)) == found
    assert len({entry(search, outcome)["from"]["search"] for outcome in outcomes}) == 1


def test_a_real_trial_leaves_its_test_set_alone(monkeypatch):
    from poolbench.cell import train_cell
    from poolbench.data.base import DataSource

    load = DataSource.load
    hidden = {"test_images": None, "test_labels": None}  # a test set that cannot be looked at
    monkeypatch.setattr(DataSource, "load", lambda *a: dataclasses.replace(load(*a), **hidden))
    words = ["pool=max", *TINY[:-2], "trainer.epochs=1", "trainer.batch_size=20", "data.validation=0.2"]
    (trial,) = make_plan([*words, "trainer.test=false"]).cells
    (ordinary,) = make_plan(words).cells
    code = {"commit": None, "dirty": None}
    assert train_cell(trial.config, code, threads=1) == "done"
    result = read_record(trial.folder).result
    assert [result[name] for name in ("test_accuracy", "test_loss", "flip_averaged_accuracy")] == [None] * 3
    assert result["test_samples"] == 0
    assert 0 <= result["validation_accuracy"] <= 1
    assert train_cell(ordinary.config, code, threads=1) == "failed"  # so the trial passes for the right reason


def test_real_cells_are_trained_by_the_workers_of_a_sweep():
    class Silent:
        def started(self, cell): ...
        def ended(self, cell, state, reason): ...
        def tick(self): ...

    words = ["pool=max", *TINY[:-2], "trainer.epochs=1", "trainer.batch_size=20", "trainer.threads=1"]
    search = make_search(words, [RATE], trials=2)
    (outcome,) = run_search(search, lambda wave: run_plan(open_cells(wave), Silent()))
    assert all(cell.state() == DONE for cell in outcome.cells)
    assert outcome.scores[-1][outcome.winner].images == 6


@pytest.mark.parametrize(
    ("more", "params", "options", "words"),
    [
        ([], [], {}, ["--param"]),
        ([], ["optimizer.lr"], {}, ["OPTION=RANGE"]),
        ([], ["optimizer.lr=0.1"], {}, ["'0.1'", "log(0.01,1.0)"]),
        ([], ["optimizer.lr=log(0,1)"], {}, ["above 0"]),
        ([], ["optimizer.lr=log(1,0.1)"], {}, ["below"]),
        ([], ["optimizer.lr=log(0.1)"], {}, ["two numbers"]),
        ([], ["optimizer.lr=0.1,1e-1"], {}, ["different"]),
        ([], ["trainer.batch_size=int(1.5,3)"], {}, ["whole numbers"]),
        ([], [RATE, RATE], {}, ["twice"]),
        ([], ["optimizer.lrate=log(0.1,1)"], {}, ["optimizer.lrate", "'optimizer.lr'"]),
        ([], ["pool.p=uniform(1,3)"], {}, ["pool.p", "max"]),
        ([], ["trainer.epochs=1,2"], {}, ["trainer.epochs", "budget"]),
        ([], ["probe.border=wrap,zeros"], {}, ["probe.border cannot be searched"]),
        ([], ["data.validation=0.1,0.2"], {}, ["data.validation"]),
        (["optimizer.lr=0.1"], [RATE], {}, ["optimizer.lr", "--param"]),
        (["data.validation=0"], [RATE], {}, ["data.validation=0"]),
        (["data.validation=0.1,0.2"], [RATE], {}, ["data.validation"]),
        (["trainer.test=false"], [RATE], {}, ["trainer.test"]),
        (["optimizer=tuned"], [RATE], {}, ["optimizer=tuned"]),
        (["sweep.sample=1"], [RATE], {}, ["sweep.sample"]),
        (["sweep.fail_fast=true"], [RATE], {}, ["sweep.fail_fast"]),
        ([], [RATE], {"trials": 1}, ["--trials", "1"]),
        ([], [RATE], {"eta": 1}, ["--eta", "1"]),
        ([], [RATE], {"trials": 3, "sampler": "grid"}, ["--trials", "grid"]),
        ([], [RATE], {"name": "../winners"}, ["../winners"]),
    ],
)
def test_a_search_that_cannot_be_is_refused_before_any_work(more, params, options, words):
    with pytest.raises(ConfigError) as refused:
        make_search(["pool=max,average", *TINY, *more], params, **options)
    for word in words:
        assert word in str(refused.value)
    assert not Path("runs").exists()


def test_treatments_with_different_budgets_are_refused():
    with pytest.raises(ConfigError, match=r"trainer\.epochs"):
        make_search(["pool=max", *TINY[:-2], "trainer.batch_size=20", "trainer.epochs=2,3"], [RATE])


@given(st.integers(2, 200), st.integers(2, 5), st.integers(1, 100))
def test_rungs_end_in_full_and_never_cost_more_than_all_trials_in_full(trials, eta, epochs):
    rungs = make_rungs(trials, eta, epochs)
    assert rungs[0].trials == trials
    assert rungs[-1].epochs == epochs
    for early, late in itertools.pairwise(rungs):
        assert early.trials > late.trials >= 1
        assert early.epochs < late.epochs
    assert rungs[-1].trials <= eta or rungs[0].epochs == 1
    if len(rungs) > 1:
        # Rounding up to whole epochs and trials may cost at most one of each a rung.
        assert rungs[0].trials * rungs[0].epochs <= trials * (epochs / eta + 1)


def test_rungs_of_the_usual_search():
    assert make_rungs(9, 3, 9) == [Rung(9, 3), Rung(3, 9)]
    assert make_rungs(27, 3, 9) == [Rung(27, 1), Rung(9, 3), Rung(3, 9)]
    assert make_rungs(27, 3, 2) == [Rung(27, 1), Rung(9, 2)]
    assert make_rungs(3, 3, 9) == [Rung(3, 9)]


@given(st.lists(st.one_of(st.none(), st.sampled_from([0.1, 0.2, 0.3])), min_size=1, max_size=12), st.integers(1, 12))
def test_survivors_are_the_best_and_never_those_that_failed(accuracies, count):
    scores = {number: Score(accuracy, 1.0, 10) for number, accuracy in enumerate(accuracies)}
    kept = survivors(scores, count)
    sound = [number for number, accuracy in enumerate(accuracies) if accuracy is not None]
    assert len(kept) == min(count, len(sound))
    assert set(kept) <= set(sound)
    for lost in set(sound) - set(kept):
        assert all((-accuracies[lost], lost) > (-accuracies[number], number) for number in kept)


def test_the_error_of_an_accuracy_is_that_of_a_share_of_its_images():
    drawn = np.random.default_rng(0).binomial(400, 0.8, 20_000) / 400
    assert Score(0.8, images=400).error == pytest.approx(drawn.std(), rel=0.02)
    assert math.isnan(Score(None).error)


def test_ties_go_to_the_lower_loss_and_then_to_the_earlier_trial():
    scores = {0: Score(0.5, 0.9), 1: Score(0.5, 0.7), 2: Score(None), 3: Score(0.5, 0.7), 4: Score(0.6, 2.0)}
    assert ranked(scores) == [4, 1, 3, 0, 2]


@pytest.mark.parametrize("full", [1, 4, 9])
def test_sides_keep_their_ends_and_lists_that_alternate_stay(full):
    listed = list(range(10, 10 + full))
    for epochs in range(1, full + 1):
        short = sides(listed, full, epochs)
        assert len(short) == epochs
        assert short[-1] == listed[-1]
        assert short == sorted(short)
    assert sides([32, 26], 9, 3) == [32, 26]
    assert sides(None, 9, 3) is None


RANGES = ["log(0.001,1.0)", "uniform(0,0.5)", "int(1,40)", "logint(8,512)", "0.1,0.2,0.4", "choice(a,b,c)"]


@pytest.mark.parametrize("text", RANGES)
def test_values_stay_in_their_range_and_reach_both_ends(text):
    parameter = read_parameter(f"x.y={text}")
    values = [parameter.at(share) for share in (0.0, 0.0001, 0.3, 0.5, 0.7, 0.9999, 1.0)]
    if parameter.kind == "choice":
        assert set(values) == set(parameter.choices)
    else:
        numbers = [float(value) for value in values]
        assert numbers == sorted(numbers)
        assert (numbers[0], numbers[-1]) == (parameter.low, parameter.high)
        assert ("int" in parameter.kind) == all(value.isdigit() for value in values)


@given(st.integers(0, 5), st.integers(2, 40))
def test_points_are_the_same_every_time_different_from_each_other_and_more_begin_with_fewer(seed, trials):
    parameters = [read_parameter("a.b=log(0.001,1.0)"), read_parameter("c.d=x,y,z")]
    points = random_points(parameters, trials, seed)
    assert len(points) == len(set(points)) == trials
    assert points == random_points(parameters, trials + 5, seed)[:trials]
    assert points != random_points(parameters, trials, seed + 1)


def test_points_leave_no_large_gap():
    shares = sorted(
        (math.log10(float(point[0])) + 3) / 3 for point in random_points([read_parameter("a.b=log(0.001,1.0)")], 16, 3)
    )
    gaps = [b - a for a, b in zip([0.0, *shares], [*shares, 1.0], strict=True)]
    assert max(gaps) < 2.7 / 16  # of independent draws the largest is usually above 3 / 16


def test_a_small_space_is_tried_whole_and_no_point_twice():
    parameters = [read_parameter("a.b=1,2"), read_parameter("c.d=int(1,3)")]
    assert len(set(random_points(parameters, 50, 0))) == 6
    assert make_search(["pool=max", *TINY], ["optimizer.lr=0.1,0.2,0.4"], trials=50).trials == 3


def test_a_grid_has_all_combinations_with_both_ends():
    points = grid_points([read_parameter("a.b=log(0.01,1.0,3)"), read_parameter("c.d=1,2")])
    assert points == [(a, c) for a in ("0.01", "0.1", "1.0") for c in ("1", "2")]
    assert [value for (value,) in grid_points([read_parameter("a.b=int(1,3)")])] == ["1", "2", "3"]
    assert search_of("max", params=["optimizer.lr=log(0.01,1.0,4)"], sampler="grid").trials == 4


@pytest.mark.parametrize(
    ("text", "value", "edge"),
    [
        ("log(0.01,1.0)", "0.011", "lower"),
        ("log(0.01,1.0)", "0.1", None),
        ("log(0.01,1.0)", "0.9", "upper"),
        ("uniform(0,1)", "0.05", "lower"),
        ("uniform(0,1)", "0.5", None),
        ("0.1,0.4,0.2", "0.4", "upper"),
        ("0.1,0.4,0.2", "0.2", None),
        ("0.1,0.2", "0.2", None),
        ("a,b,c", "c", None),
    ],
)
def test_an_edge_is_where_a_better_value_may_lie_beyond(text, value, edge):
    assert read_parameter(f"x.y={text}").edge(value) == edge


def test_optuna_is_told_what_the_records_say_and_goes_on_from_them():
    pytest.importorskip("optuna", reason="the extra hpo installs it")
    undisturbed = Trainer()
    expected = run_search(search_of("max,average", trials=6, sampler="optuna"), undisturbed)
    assert [len(outcome.points) for outcome in expected] == [6, 6]
    assert len(set(expected[0].points)) == 6
    first, second = expected[0].points, expected[1].points
    assert first[:2] == second[:2]  # before anything is known
    assert first != second  # each goes after its own best
    shutil.rmtree("runs")
    killed = Trainer(lives=7)
    with pytest.raises(Killed):
        run_search(search_of("max,average", trials=6, sampler="optuna"), killed)
    again = Trainer()
    outcomes = run_search(search_of("max,average", trials=6, sampler="optuna"), again)
    assert killed.trained + again.trained == undisturbed.trained
    assert [outcome.winner for outcome in outcomes] == [outcome.winner for outcome in expected]


def test_optuna_bears_failed_trials_and_small_spaces():
    pytest.importorskip("optuna", reason="the extra hpo installs it")
    search = search_of("max", params=["optimizer.lr=0.01,0.1,1"], trials=50, sampler="optuna")
    (outcome,) = run_search(search, Trainer(fails=lambda config: "lasting" if lr(config) == 1 else None))
    assert sorted(outcome.points) == [("0.01",), ("0.1",), ("1",)]
    assert outcome.points[outcome.winner] == ("0.1",)


def test_the_winner_of_a_rung_of_several_waves_may_be_of_any():
    pytest.importorskip("optuna", reason="the extra hpo installs it")
    trainer = Trainer(fails=lambda config: "lasting" if len(trainer.trained) > 2 else None)  # all but the first wave
    (outcome,) = run_search(search_of("max", trials=4, eta=4, sampler="optuna"), trainer)
    assert len(trainer.waves) == 2
    assert {lr(cell.config) for cell in outcome.cells} == {float(outcome.points[outcome.winner][0])}


def test_without_optuna_the_error_says_what_to_install(monkeypatch):
    monkeypatch.setattr("poolbench.tuning.optuna.find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"poolbench\[hpo\]"):
        search_of("max", sampler="optuna")
