"""From winners to cells: plain values, an identity that does not know of them, and clear words where there are none."""

import copy

import pytest
import yaml

from poolbench.configuration import ConfigError
from poolbench.records.tuning import mark, recipe
from poolbench.sweep.plan import make_plan
from poolbench.sweep.tuned import description, path_of, read_entries, write_entries

TINY = ["data=shapes", "data.train_samples=200", "data.test_samples=20", "model=convnet_small", "trainer.epochs=2"]


@pytest.fixture(autouse=True)
def _in_an_empty_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def winner(words, values, **source):
    """An entry as a search leaves it for the treatment ``words``."""
    (plain,) = make_plan([*TINY, *words]).cells
    (best,) = make_plan([*TINY, *words, *(f"{key}={value}" for key, value in values.items())]).cells
    own = {
        "search": "1a2b3c4d",
        "parameters": {option: "log(0.001,1.0)" for option in values},
        "trials": 9,
        "rungs": [[9, 1], [3, 2]],
        "sampler": "random",
        "seeds": [1000],
        "validation": 0.1,
        "accuracy": 0.5,
        "recipe": recipe(best.config),
    }
    return {"match": description(plain.config), "set": values, "from": {**own, **source}}


@pytest.fixture
def tuned():
    entries = [winner(["pool=max"], {"optimizer.lr": 0.03}), winner(["pool=average"], {"optimizer.lr": 0.3})]
    write_entries("default", entries)
    return entries


@pytest.mark.parametrize("word", ["optimizer=tuned", "tuned=default"])
def test_each_cell_gets_the_values_of_its_own_treatment(word, tuned):
    plan = make_plan(["pool=max,average", *TINY, word, "seeds=2"])
    assert [(cell.config["names"]["pool"], cell.config["optimizer"]["lr"]) for cell in plan.cells] == [
        ("max", 0.03),
        ("average", 0.3),
        ("max", 0.03),
        ("average", 0.3),
    ]


def test_a_tuned_cell_is_the_cell_of_its_values_and_says_where_they_came_from(tuned):
    (cell,) = make_plan(["pool=max", *TINY, "optimizer=tuned"]).cells
    (plain,) = make_plan(["pool=max", *TINY, "optimizer.lr=0.03"]).cells
    assert cell.run_id == plain.run_id
    said = cell.config.pop("tuned")
    assert cell.config == plain.config
    assert said["set"] == {"optimizer.lr": 0.03}
    assert (said["trials"], said["validation"], said["seeds"]) == (9, 0.1, [1000])
    assert sorted(said["recipes"]) == sorted(entry["from"]["recipe"] for entry in tuned)
    assert mark({**cell.config, "tuned": said}).search == "1a2b3c4d"
    assert "optimizer=tuned" in cell.overrides  # so that the cell is repeated with the same mark


def test_both_views_fit_one_command(tuned):
    plan = make_plan(["pool=max,average", *TINY, "optimizer=sgd,tuned"])
    assert sorted(cell.config["optimizer"]["lr"] for cell in plan.cells) == [0.03, 0.1, 0.1, 0.3]


def test_values_of_any_group_are_set():
    entry = winner(["pool=lp"], {"pool.p": 2.5, "schedule.warmup": 0.2, "trainer.label_smoothing": 0.1})
    write_entries("all", [entry])
    (cell,) = make_plan(["pool=lp", *TINY, "tuned=all"]).cells
    config = cell.config
    found = [config["pool"]["p"], config["schedule"]["warmup"], config["trainer"]["label_smoothing"]]
    assert found == [2.5, 0.2, 0.1]
    assert config["names"]["pool"] == "lp(p=2.5)"
    assert recipe(config) == entry["from"]["recipe"]


def test_the_optimizer_that_was_tuned_comes_with_its_values():
    entry = winner(["pool=max"], {"optimizer.lr": 0.004})
    entry["set"] = {"optimizer": "adamw", "optimizer.lr": 0.004}
    write_entries("default", [entry])
    for words in (["optimizer=tuned"], ["tuned=default", "optimizer=adamw"]):
        (cell,) = make_plan(["pool=max", *TINY, *words]).cells
        assert cell.config["names"]["optimizer"] == "adamw(lr=0.004)"
    with pytest.raises(ConfigError, match="leave one of them out"):
        make_plan(["pool=max", *TINY, "tuned=default", "optimizer=muon"])


def test_a_value_beside_the_tuned_one_must_be_the_same(tuned):
    (cell,) = make_plan(["pool=max", *TINY, "tuned=default", "optimizer.lr=3e-2"]).cells
    assert cell.config["optimizer"]["lr"] == 0.03
    with pytest.raises(ConfigError, match=r"optimizer\.lr=0\.5.*0\.03"):
        make_plan(["pool=max", *TINY, "tuned=default", "optimizer.lr=0.5"])


def test_a_validation_split_and_other_seeds_do_not_matter(tuned):
    for words in (["data.validation=0.2"], ["seed=7"], ["trainer.train_evaluation=10"]):
        (cell,) = make_plan(["pool=max", *TINY, "optimizer=tuned", *words]).cells
        assert cell.config["optimizer"]["lr"] == 0.03


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["pool=lp"], ["lp", "only max, average", "poolbench tune pool=lp", "--param 'optimizer.lr=log(0.001,1.0)'"]),
        (["pool=max", "pool.kernel_size=3"], ["max(kernel_size=3)", "poolbench tune"]),
        (["pool=max", "trainer.epochs=5"], ["trainer.epochs=2 there and 5 here"]),
        (["pool=max", "trainer.batch_size=7"], ["trainer.batch_size=128 there and 7 here"]),
        (["pool=max", "data.augmentation.flip=false"], ["data.augmentation"]),
        (["pool=max", "schedule=linear"], ["schedule=cosine there and linear here"]),
        (["pool=max", "model=convnet"], ["in convnet ", "but max in convnet_small"]),
    ],
)
def test_what_was_not_tuned_is_refused_with_the_command_that_tunes_it(words, said, tuned):
    given = {word.partition("=")[0] for word in words}
    rest = [text for text in TINY if text.partition("=")[0] not in given]
    with pytest.raises(ConfigError) as refused:
        make_plan([*words, *rest, "optimizer=tuned"])
    for text in said:
        assert text in str(refused.value)


def test_a_search_that_was_never_made_is_refused(tuned):
    with pytest.raises(ConfigError, match=r"tuned=defalt: there is no .*Did you mean 'default'.*poolbench tune"):
        make_plan(["pool=max", *TINY, "tuned=defalt"])


@pytest.mark.parametrize("name", ["../x", "/tmp/x", "a/b", "", ".", "..", "a b"])
def test_a_name_is_never_a_path(name):
    with pytest.raises(ConfigError):
        path_of(name)


def test_treatments_that_were_not_tuned_alike_are_not_compared(tuned):
    write_entries("default", [winner(["pool=lp"], {"optimizer.lr": 0.2}, search="99999999", trials=20)])
    assert len(make_plan(["pool=lp", *TINY, "optimizer=tuned"]).cells) == 1
    with pytest.raises(ConfigError, match=r"not tuned alike.*9 trials.*20 trials"):
        make_plan(["pool=max,lp", *TINY, "optimizer=tuned"])


def test_two_winners_of_one_treatment_are_refused(tuned):
    wide = winner(["pool=max"], {"optimizer.lr": 0.5})
    del wide["match"]["schedule"]
    write_entries("default", [wide])
    with pytest.raises(ConfigError, match=r"default.yaml: 2 entries match max in .*make their match say more"):
        make_plan(["pool=max", *TINY, "optimizer=tuned"])


def test_a_new_winner_takes_the_place_of_its_treatments_old_one_and_of_no_other(tuned):
    write_entries("default", [winner(["pool=max"], {"optimizer.lr": 0.7})])
    found = {entry["match"]["pool"]: entry["set"]["optimizer.lr"] for entry in read_entries("default")}
    assert found == {"max": 0.7, "average": 0.3}
    before = path_of("default").read_bytes()
    write_entries("default", read_entries("default"))
    assert path_of("default").read_bytes() == before


@pytest.mark.parametrize(
    "content",
    [
        "nothing",
        "- {match: {}, set: {}}",
        "- {match: {}, set: {}, from: {search: 3}}",
        "a: [",
        "- !!python/object/apply:os.getcwd []",
    ],
)
def test_a_file_of_winners_that_is_none_is_refused_and_nothing_in_it_is_run(content):
    path_of("default").parent.mkdir()
    path_of("default").write_text(content)
    with pytest.raises(ConfigError, match=r"tuned.default\.yaml"):
        make_plan(["pool=max", *TINY, "optimizer=tuned"])


def test_what_a_file_sets_is_an_option_of_a_cell_and_nothing_else(tuned):
    for key in ("runs_dir", "sweep.workers", "hydra.run.dir"):
        entries = copy.deepcopy(tuned)
        entries[0]["set"] = {key: "elsewhere"}
        path_of("default").write_text(yaml.safe_dump(entries))
        with pytest.raises(ConfigError, match=key.partition(".")[0]):
            make_plan(["pool=max", *TINY, "optimizer=tuned"])


def test_a_recipe_is_the_cell_without_its_seed_and_what_a_trial_has_otherwise():
    (cell,) = make_plan(["pool=max", *TINY]).cells
    for words in (["seed=3"], ["data.validation=0.1"], ["trainer.test=false"], ["trainer.threads=1"]):
        (other,) = make_plan(["pool=max", *TINY, *words]).cells
        assert recipe(other.config) == recipe(cell.config)
    for words in (["optimizer.lr=0.2"], ["trainer.batch_size=7"], ["head=gem"]):
        (other,) = make_plan(["pool=max", *TINY, *words]).cells
        assert recipe(other.config) != recipe(cell.config)


@pytest.mark.parametrize(
    "option",
    ["trainer.weight_averaging=0.9", "trainer.alternate_flip=true", "trainer.sizes=[24]", "trainer.skip_easy=0.5"],
)
def test_options_that_an_identity_leaves_out_are_part_of_the_recipe_too(tuned, option):
    with pytest.raises(ConfigError, match=option.partition("=")[0]):
        make_plan(["pool=max", *TINY, "optimizer=tuned", option])
