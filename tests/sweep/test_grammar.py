"""What a user writes for several cells, and the cells that it stands for."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from poolbench.configuration import ConfigError
from poolbench.overrides import parse
from poolbench.sweep.grammar import command_line, count_of_seeds, expand


def cells(blocks=(), line=()):
    given, seeds = command_line(line)
    return list(expand(list(blocks), given, seeds))


# --- the command line


@pytest.mark.parametrize(
    ("text", "axis"),
    [
        ("pool=max", ["max"]),
        ("pool=max,average", ["max", "average"]),
        ("pool=choice(max,lp)", ["max", "lp"]),
        ("seed=range(0, 3)", ["0", "1", "2"]),
        ("seed=range(0,10,5)", ["0", "5"]),
        ("pool=[max,average,lp]", ["[max,average,lp]"]),
        ("pool=[max,max],[lp,lp]", ["[max,max]", "[lp,lp]"]),
        ("data.root='a,b'", ["'a,b'"]),
        ('data.root="a=b"', ['"a=b"']),
        ("+pool.option=3", ["3"]),
        ("optimizer.lr=1e-3,0.1", ["0.001", "0.1"]),
    ],
)
def test_an_option_is_an_axis_of_its_values(text, axis):
    axes, seeds = command_line([text])
    assert axes == {text.partition("=")[0]: axis}
    assert seeds is None


@pytest.mark.parametrize(
    ("line", "words"),
    [
        (["pool=max", "pool=average"], "pool is given twice.*pool=a,b"),
        (["seeds=3", "seed=1"], "either seed=.*or seeds="),
        (["seeds=0"], "seeds must be a whole number of at least 1"),
        (["seeds=1.5"], "seeds must be"),
        (["seeds=true"], "seeds must be"),
        (["seeds=1,2"], "seeds must be"),
        (["pool"], "'pool' is not an option"),
        (["data.root=a=b"], "quotes"),
        (["~pool.padding"], "~pool.padding: an option cannot be removed"),
        (["pool=glob(*)"], r"pool=glob\(\*\)"),
        (["optimizer.lr=interval(0,1)"], "interval"),
        (["+pool.p=1", "pool.p=2"], "pool.p is given twice"),
        (["seeds=2", "seeds=3"], "seeds is given twice"),
        (["seed=range(3,3)"], "has no value"),
        (["runs_dir=a,b"], "runs_dir takes one value, for the whole sweep, got a, b"),
        (
            ["data.augmentation={crop:2}", "data.augmentation.flip=false"],
            "data.augmentation and data.augmentation.flip",
        ),
        (["pool=[max,lp]", "pool.p=3"], r"pool=\[max,lp\] and pool.p are both given"),
        (["pool=max,[max,lp]", "pool.sites=[max]"], r"pool=\[max,lp\] and pool.sites"),
    ],
)
def test_what_a_command_line_cannot_mean_is_refused(line, words):
    with pytest.raises(ConfigError, match=words):
        command_line(line)


def test_counts_of_seeds():
    assert command_line(["seeds=3", "pool=max"]) == ({"pool": ["max"]}, 3)
    for bad in (0, -1, 2.0, "3", None, True, [3]):
        with pytest.raises(ConfigError, match="6 means seed 0 to 5"):
            count_of_seeds(bad)


# --- blocks


def test_without_blocks_the_command_line_is_the_sweep_and_the_seed_varies_slowest():
    assert cells(line=["pool=max,lp", "seeds=2", "trainer.epochs=1"]) == [
        ("seed=0", "pool=max", "trainer.epochs=1"),
        ("seed=0", "pool=lp", "trainer.epochs=1"),
        ("seed=1", "pool=max", "trainer.epochs=1"),
        ("seed=1", "pool=lp", "trainer.epochs=1"),
    ]
    assert cells() == [()]
    assert [cell[0] for cell in cells(line=["pool=max,lp", "seed=5,3"])] == ["seed=5", "seed=5", "seed=3", "seed=3"]


def test_a_product_has_every_combination():
    block = {"product": {"pool": ["max", "lp"], "trainer.epochs": [1, 2, 3], "head": "flatten"}, "seeds": 2}
    found = cells([block])
    assert len(found) == len(set(found)) == 12
    assert {cell[0] for cell in found[:6]} == {"seed=0"}
    assert all("head=flatten" in cell for cell in found)


def test_a_zip_goes_side_by_side_and_is_crossed_with_the_rest():
    block = {
        "zip": {"pool": ["max", "lp"], "pool.kernel_size": [2, 3]},
        "product": {"model": ["convnet", "resnet"]},
        "seeds": 2,
    }
    found = cells([block])
    assert len(found) == 8
    assert {tuple(sorted(option for option in cell if option.startswith("pool"))) for cell in found} == {
        ("pool.kernel_size=2", "pool=max"),
        ("pool.kernel_size=3", "pool=lp"),
    }


def test_values_of_every_kind_are_written_as_on_the_command_line():
    values = [1, 1.5, 1e-05, True, None, "max", [8, 16], {"lp": {"p": 3}}, ["max", {"lp": {"p": 3}}]]
    assert [cell[0].partition("=")[2] for cell in cells([{"product": {"x": values}}])] == [
        "1",
        "1.5",
        "1e-05",
        "true",
        "null",
        "max",
        "[8,16]",
        "{lp:{p:3}}",
        "[max,{lp:{p:3}}]",
    ]
    assert cells([{"product": {"seed": "range(0, 3)", "pool": "max,lp"}}])[1] == ("seed=0", "pool=lp")


@given(st.text(st.characters(categories=("L", "N", "P", "S", "Zs"))))
def test_a_string_of_a_block_means_what_it_does_on_the_command_line_or_else_itself(text):
    ((cell,),) = cells([{"product": {"x": [text]}}])
    try:
        bare = parse(f"x={text}")
    except ConfigError:  # as a=b
        bare = None
    wanted = text if bare is None or bare.is_sweep_override() else bare.value()
    assert repr(parse(cell).value()) == repr(wanted)


def test_blocks_are_united_and_what_two_have_in_common_is_there_once():
    first = {"product": {"pool": ["max", "lp"]}, "seeds": 2}
    second = {"product": {"pool": ["lp", "average"]}, "seeds": 1}
    found = cells([first, second])
    assert len(found) == len(set(found)) == 5
    assert found[:4] == cells([first])


def test_what_is_excluded_is_left_out():
    block = {
        "product": {"pool": ["max", "lp", "average"], "trainer.epochs": [1, 2]},
        "seeds": 2,
        "exclude": [{"pool": "lp", "trainer.epochs": 2}, {"pool": ["average", "max"], "seed": 1}],
    }
    found = cells([block])
    assert len(found) == 12 - 2 - 4
    assert not any({"pool=lp", "trainer.epochs=2"} <= set(cell) for cell in found)
    assert not any("seed=1" in cell and "pool=lp" not in cell for cell in found)
    assert cells([{**block, "exclude": [{"pool": "max,lp,average"}]}]) == []


def test_the_command_line_takes_the_place_of_a_blocks_own_values():
    blocks = [
        {"product": {"pool": ["max", "lp"], "trainer.epochs": [5]}, "seeds": 3},
        {"zip": {"pool": ["average", "lp"], "model": ["convnet", "resnet"]}, "product": {"seed": [7, 8]}},
    ]
    found = cells(blocks, ["trainer.epochs=1"])
    assert all("trainer.epochs=1" in cell for cell in found)
    assert len(found) == 6 + 4
    assert {cell[0] for cell in cells(blocks, ["seeds=1"])} == {"seed=0"}
    assert {cell[0] for cell in cells(blocks, ["seed=4,5"])} == {"seed=4", "seed=5"}
    assert {option for cell in cells(blocks, ["pool=subsample"]) for option in cell if option.startswith("pool")} == {
        "pool=subsample"
    }


@pytest.mark.parametrize(
    ("block", "words"),
    [
        ("max", "may have product, zip, exclude, overrides, seeds, got 'max'"),
        ({"products": {}}, "unknown key 'products'. Did you mean 'product'.*may have product, zip"),
        ({"product": ["pool", "max"]}, "product must be options with lists"),
        ({"zip": "pool"}, "zip must be options with lists"),
        ({"zip": {"pool": ["max", "lp"], "model": ["convnet"]}}, "one length, got pool: 2, model: 1"),
        ({"seeds": "three"}, "seeds must be"),
        ({"product": {"pool": ["max"]}, "zip": {"pool": ["lp"]}}, "says twice what pool is"),
        ({"product": {"seed": [1, 2]}, "seeds": 3}, "says twice what seed is"),
        ({"product": {"pool": ["max"]}, "exclude": {"pool": "max"}}, "exclude is a list of partial matches"),
        ({"product": {"pool": ["max"]}, "exclude": [{}]}, "exclude takes partial matches"),
        ({"product": {"pool": ["max"]}, "exclude": [{"pol": "max"}]}, "pol, which does not vary there.*'pool'"),
        ({"product": {"pool": "max=lp"}}, "quotes"),
        ({"product": {"pool": []}}, "product: pool has no value"),
        ({"product": {"seeds": [3]}}, "seeds stands beside product"),
        ({"product": {"seed": "range(0", "10)": None}}, r"'10\)' is no option.*quotes"),
        ({"product": {"~pool.p": [1]}}, "'~pool.p' is no option"),
        ({"product": {True: [1]}}, "True is no option"),
        ({"product": {"sweep.workers": [1, 2]}}, "sweep.workers is of the whole sweep"),
        ({"product": {"runs_dir": ["a"]}}, "runs_dir is of the whole sweep"),
        ({"product": {"hydra.launcher.partition": ["a"]}}, "hydra.launcher.partition is of the whole sweep"),
        ({"product": {"+pool.p": [1]}, "zip": {"pool.p": [2]}}, "says twice what pool.p is"),
        (
            {"product": {"data.augmentation": [{"crop": 2}]}, "zip": {"data.augmentation.crop": [1, 2]}},
            "data.augmentation and data.augmentation.crop are both given",
        ),
        ({"product": {"pool": [["max", "lp"]], "pool.p": [2]}}, r"pool=\[max,lp\] and pool.p are both given"),
        ({"product": {"pool": ["max"]}, "exclude": [{"pool": "mux"}]}, "exclude {pool: mux} fits no cell.*pool is max"),
        ({"product": {"pool": ["max"]}, "seeds": 2, "exclude": [{"seed": 2}]}, "fits no cell .seed is 0, 1"),
        ({"overrides": {"match": {}}}, "overrides is a list of {match"),
        ({"overrides": ["max"]}, "overrides is a list of {match"),
        ({"overrides": [{"match": {"seed": 0}, "sets": {}}]}, "unknown key 'sets'. Did you mean 'set'"),
        ({"overrides": [{"match": {"seed": 0}}]}, "set must be options with a value each, got None"),
        ({"overrides": [{"set": {"optimizer.lr": 1}}]}, "match takes partial matches"),
    ],
)
def test_a_block_that_is_wrong_is_named_by_its_number(block, words):
    with pytest.raises(ConfigError, match=words) as caught:
        cells([{"product": {"pool": ["max"]}}, block])
    assert "sweep block 2" in str(caught.value)


def test_values_are_compared_by_what_they_mean():
    block = {"product": {"optimizer.lr": ["1e-3", 0.1, 2], "trainer.compile": [True]}}
    for written in (0.001, "1e-3", "0.0010", [0.001], "0.001,5"):
        assert len(cells([{**block, "exclude": [{"optimizer.lr": written}]}])) == 2
    assert len(cells([{**block, "exclude": [{"optimizer.lr": 2.0}]}])) == 2
    with pytest.raises(ConfigError, match="fits no cell"):
        cells([{**block, "exclude": [{"trainer.compile": 1}]}])


def test_a_pattern_may_name_what_the_command_line_left_out():
    block = {"product": {"pool": ["max", "lp"]}, "seeds": 3, "exclude": [{"pool": "lp", "seed": 2}]}
    assert len(cells([block])) == 5
    assert len(cells([block], ["seeds=1"])) == 2
    assert len(cells([block], ["pool=max"])) == 3
    with pytest.raises(ConfigError, match="fits no cell"):
        cells([{**block, "exclude": [{"pool": "lp", "seed": 3}]}], ["pool=max"])


# --- overrides of single cells

TUNED = {
    "product": {"pool": ["max", "lp", "lip"], "optimizer.lr": 0.1},
    "seeds": 2,
    "overrides": [
        {"match": {"pool": ["lp", "lip"]}, "set": {"optimizer.lr": 0.05, "trainer.sizes": [32, 16]}},
        {"match": {"pool": "lip", "seed": 1}, "set": {"optimizer.lr": 0.01}},
    ],
}


def test_overrides_set_options_of_the_cells_that_match_and_later_ones_win():
    found = cells([TUNED])
    assert len(found) == 6
    for cell in found:
        lr = {"pool=max": "0.1", "pool=lp": "0.05", "pool=lip": "0.01" if "seed=1" in cell else "0.05"}[cell[1]]
        assert [text for text in cell if text.startswith("optimizer.lr")] == [f"optimizer.lr={lr}"]
        assert ("trainer.sizes=[32,16]" in cell) == ("pool=max" not in cell)


def test_the_order_of_overrides_decides_and_matches_see_the_cell_as_it_was_declared():
    both = [
        {"match": {"optimizer.lr": 0.1}, "set": {"optimizer.lr": 1}},
        {"match": {"optimizer.lr": 1}, "set": {"optimizer.lr": 2}},
    ]
    with pytest.raises(ConfigError, match="fits no cell"):
        cells([{"product": {"optimizer.lr": 0.1}, "overrides": both}])
    both[1]["match"] = {"optimizer.lr": 0.1}
    assert cells([{"product": {"optimizer.lr": 0.1}, "overrides": both}]) == [("optimizer.lr=2",)]
    two = [{"match": {"seed": 0}, "set": {"x": value}} for value in (1, 2)]
    assert cells([{"seeds": 1, "overrides": two}]) == [("seed=0", "x=2")]
    assert cells([{"seeds": 1, "overrides": two[::-1]}]) == [("seed=0", "x=1")]


def test_the_command_line_may_leave_out_what_an_override_is_for_and_not_gainsay_it():
    assert len(cells([TUNED], ["pool=max"])) == 2
    assert {text for cell in cells([TUNED], ["trainer.epochs=1", "seeds=1"]) for text in cell} >= {"optimizer.lr=0.05"}
    for line in (["optimizer.lr=0.3"], ["+optimizer.lr=0.3"], ["trainer.sizes=null"]):
        with pytest.raises(ConfigError, match=r"sweep block 1: overrides sets .* which the command line gives too"):
            cells([TUNED], line)


@pytest.mark.parametrize(
    ("entry", "words"),
    [
        ({"match": {"pool": "lpp"}, "set": {"x": 1}}, "match {pool: lpp} fits no cell .pool is max, lp, lip"),
        ({"match": {"pol": "lp"}, "set": {"x": 1}}, "match names pol, which does not vary there.*'pool'"),
        ({"match": {"pool": "lp"}, "set": {"seed": 3}}, "cannot change seed"),
        ({"match": {"pool": "lp"}, "set": {"seeds": 3}}, "seeds stands beside product"),
        ({"match": {"pool": "lp"}, "set": {"sweep.workers": 3}}, "sweep.workers is of the whole sweep"),
        ({"match": {"pool": "lp"}, "set": {"x": "1,2"}}, "set takes one value for x, got 1, 2"),
        ({"match": {"pool": "lp"}, "set": {"x": 1, "+x": 2}}, "set says twice what x is"),
        ({"match": {"pool": "lp"}, "set": {"pool": "max"}}, "makes one cell of seed=0 pool=max"),
        ({"match": {"pool": "lp"}, "set": {"optimizer": 1, "optimizer.lr.x": 1}}, "optimizer.lr and optimizer.lr.x"),
    ],
)
def test_an_override_that_cannot_be_meant_is_refused(entry, words):
    with pytest.raises(ConfigError, match=f"sweep block 1: .*{words}"):
        cells([{**TUNED, "overrides": [entry]}])


def test_an_override_for_excluded_cells_alone_is_refused():
    entry = {"match": {"pool": "lp"}, "set": {"x": 1}}
    with pytest.raises(ConfigError, match="fits no cell"):
        cells([{"product": {"pool": ["max", "lp"]}, "exclude": [{"pool": "lp"}], "overrides": [entry]}])


def test_one_cell_cannot_mean_two_things_in_two_blocks():
    plain = {"product": {"pool": ["lp", "average"], "optimizer.lr": 0.1}, "seeds": 2}
    with pytest.raises(
        ConfigError, match=r"block 2: seed=0 pool=lp .* just that there and optimizer.lr=0.05 .*block 1"
    ):
        cells([TUNED, plain])
    assert len(cells([TUNED, {**plain, "exclude": [{"pool": "lp"}]}])) == 8
    same = {**plain, "overrides": [{**TUNED["overrides"][0], "match": {"pool": "lp"}}]}
    assert len(cells([TUNED, same])) == 8


def test_a_cell_is_said_to_be_of_its_block():
    found = expand([{"product": {"pool": ["max"]}}, {"product": {"pool": ["max", "lp"]}}], {}, None)
    assert found == {("pool=max",): "sweep block 1", ("pool=lp",): "sweep block 2"}
    assert expand([], {"pool": ["max"]}, None) == {("pool=max",): ""}
