"""Options in Python mean what they mean on the command line."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from poolbench import api
from poolbench.api.words import as_paths, as_words
from poolbench.configuration import ConfigError
from poolbench.overrides import parse
from poolbench.sweep.plan import make_plan


@pytest.mark.parametrize(
    ("value", "word"),
    [
        ("max", "pool=max"),
        ("max,average", "pool=max,average"),
        (["max", "average"], "pool=max,average"),
        (("max", "average"), "pool=[max,average]"),
        ([("max", "lp"), "max"], "pool=[max,lp],max"),
        ([3], "pool=3"),
        (range(3), "pool=0,1,2"),
        (True, "pool=true"),
        (None, "pool=null"),
        (1e-4, "pool=0.0001"),
        ({"lp": {"p": 3}}, "pool={lp:{p:3}}"),
    ],
)
def test_a_value_is_written_as_on_the_command_line(value, word):
    assert as_words([], {"pool": value}) == [word]
    assert as_words([{"pool": value}], {}) == [word]
    assert as_words([word], {}) == [word]


def test_numbers_of_numpy_are_numbers():
    numpy = pytest.importorskip("numpy")
    assert as_words([], {"seed": list(numpy.arange(2)), "x": numpy.float32(0.5)}) == ["seed=0,1", "x=0.5"]


@given(st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1))
def test_a_path_stands_for_itself_whatever_is_in_it(text):
    path = Path("pictures") / text
    (word,) = as_words([{"data.root": path}], {})
    assert parse(word).value() == str(path)


def test_the_same_cells_as_from_the_command_line(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    words = ["pool=max,lp", "trainer.epochs=3", "trainer.sizes=[16,32,32]", "seeds=2", "model=convnet_small"]
    asked = api.plan(
        "seeds=2", {"trainer.epochs": 3, "trainer.sizes": (16, 32, 32)}, pool=["max", "lp"], model="convnet_small"
    )
    assert set(asked.frame["run_id"]) == {cell.run_id for cell in make_plan(words).cells}


def mine():
    """A builder that only this module has."""


class Here:
    """As a class of a notebook is."""


Here.__module__ = "__main__"


@pytest.mark.parametrize(
    ("value", "told"),
    [
        ([], r"option 'pool': must be one value or a list of several, got an empty list"),
        (mine, r"option 'pool': must be .*, got the function mine; name it: .*'.*test_words\.mine'"),
        (Here, r"got the class Here; cells are trained by processes of their own.*%%writefile.*'mine\.Here'"),
        (b"max", r"option 'pool': must be .*, got bytes"),
        (object(), r"option 'pool': must be .*, got object"),
    ],
)
def test_what_cannot_be_written_is_refused_with_its_name(value, told):
    with pytest.raises(ConfigError, match=told):
        as_words([], {"pool": value})


@pytest.mark.parametrize(
    "words",
    [
        ["pool._target_=__main__.MyPool"],
        [{"pool._target_": "MyPool"}],
        [{"pool.sites": [{"custom": {"_target_": "__main__.MyPool"}}]}],
    ],
    ids=["main", "bare", "sites"],
)
def test_code_of_the_notebook_is_refused_before_any_work(words):
    with pytest.raises(
        ConfigError, match=r"cannot import what a notebook or a script defines.*%%writefile mine\.py.*mine\.MyPool"
    ):
        api.sweep(*words, pool="custom")
    for word in ("pool._target_=my__main__.MyPool", "pool._target_=mine.MyPool"):
        assert as_words([word], {}) == [word]


def test_what_is_no_option_is_refused():
    with pytest.raises(ConfigError, match=r"an option is a text, 'pool=max', or a dict, .* got int '3'"):
        as_words([3], {})


def test_one_path_or_several():
    assert as_paths("a") == as_paths(Path("a")) == as_paths(["a"]) == [Path("a")]
    assert as_paths(()) == []
