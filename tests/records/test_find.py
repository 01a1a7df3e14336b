"""A record is found by its folder, its name, a beginning or an end of it, and never by guessing."""

import pytest

from poolbench.records.find import find_record

NAMES = [
    "max-convnet-shapes-s0-aaaaaaaaaa",
    "max-convnet-shapes-s1-bbbbbbbbbb",
    "max-convnet-shapes-s1-bbbbbbbbbb-x",
    "lp-convnet-shapes-s0-cccccccccc",
    "lp-convnet-shapes-s0-dddddddddd.damaged-1",
]


@pytest.fixture
def runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in NAMES:
        (tmp_path / "runs" / name).mkdir(parents=True)
        (tmp_path / "runs" / name / "config.yaml").write_text("seed: 0\n")
    (tmp_path / "runs" / "empty-eeeeeeeeee").mkdir()
    return tmp_path / "runs"


@pytest.mark.parametrize(
    ("run", "number"),
    [
        ("max-convnet-shapes-s0-aaaaaaaaaa", 0),
        ("max-convnet-shapes-s0", 0),
        ("aaaaaaaaaa", 0),
        ("lp", 3),
        ("max-convnet-shapes-s1-bbbbbbbbbb", 1),  # whole names come before beginnings
        ("runs/lp-convnet-shapes-s0-cccccccccc", 3),
        ("runs/lp-convnet-shapes-s0-dddddddddd.damaged-1", 4),  # whoever names its folder means it
    ],
)
def test_what_a_user_calls_a_record_finds_it(runs, run, number):
    assert find_record(run, runs).resolve() == runs / NAMES[number]


def test_a_path_is_taken_as_one(runs):
    assert find_record(runs / NAMES[0], runs / "elsewhere") == runs / NAMES[0]


@pytest.mark.parametrize(
    ("run", "words"),
    [
        ("max", "3 records"),
        ("lx-convnet-shapes-s0-cccccccccc", "Did you mean 'lp-convnet-shapes-s0-cccccccccc'"),
        ("dddddddddd", "no record"),
        ("empty-eeeeeeeeee", "no record"),
        ("runs/nothing", "no config.yaml"),
        ("other/max", "no config.yaml"),
    ],
)
def test_what_is_no_record_or_several_is_said_so(runs, run, words):
    with pytest.raises(ValueError, match=words):
        find_record(run, runs)


def test_without_a_folder_of_records_nothing_is_found(tmp_path):
    with pytest.raises(ValueError, match=r"no record 'max' in .*nowhere"):
        find_record("max", tmp_path / "nowhere")
