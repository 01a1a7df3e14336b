"""What a user writes for several cells, and the cells that it stands for."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from poolbench.configuration import ConfigError, parse
from poolbench.sweep.grammar import command_line, count_of_seeds, expand


def cells(blocks=(), line=()):
    given, seeds = command_line(line)
    return expand(list(blocks), given, seeds)


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
        ("max", "may have product, zip, exclude, seeds, got 'max'"),
        ({"products": {}}, "may have product"),
        ({"product": ["pool", "max"]}, "product must be options with lists"),
        ({"zip": "pool"}, "zip must be options with lists"),
        ({"zip": {"pool": ["max", "lp"], "model": ["convnet"]}}, "one length, got pool: 2, model: 1"),
        ({"seeds": "three"}, "seeds must be"),
        ({"product": {"pool": ["max"]}, "zip": {"pool": ["lp"]}}, "says twice what pool is"),
        ({"product": {"seed": [1, 2]}, "seeds": 3}, "says twice what seed is"),
        ({"product": {"pool": ["max"]}, "exclude": {"pool": "max"}}, "exclude is a list of partial matches"),
        ({"product": {"pool": ["max"]}, "exclude": [{}]}, "exclude is a list of partial matches"),
        ({"product": {"pool": ["max"]}, "exclude": [{"pol": "max"}]}, "pol, which does not vary there.*'pool'"),
        ({"product": {"pool": "max=lp"}}, "quotes"),
    ],
)
def test_a_block_that_is_wrong_is_named_by_its_number(block, words):
    with pytest.raises(ConfigError, match=words) as caught:
        cells([{"product": {"pool": ["max"]}}, block])
    if "quotes" not in words and "seeds" not in words:
        assert "sweep block 2" in str(caught.value)
