"""`poolbench probe`: measures of cells that are trained already."""

import json
import shutil

import pytest

from poolbench.cli.main import main
from poolbench.records.read import read_record
from tests.sweep.tiny import TINY

ASK = ["probe.rotate=[10]", "probe.features=true", "probe.calibration=true", "probe.site_shifts=[1]"]


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("probe")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("POOLBENCH_CACHE", str(folder / "cache"))
        assert main(["run", *TINY, "pool=max", *ASK, "runs_dir=asked"]) == 0
        assert main(["run", *TINY, "pool=max", "runs_dir=runs"]) == 0
    return folder


@pytest.fixture
def place(trained, tmp_path, monkeypatch):
    shutil.copytree(trained, tmp_path / "copy")
    monkeypatch.chdir(tmp_path / "copy")
    monkeypatch.setenv("POOLBENCH_CACHE", str(trained / "cache"))
    return tmp_path / "copy"


def only(folder):
    (found,) = folder.iterdir()
    return found


def test_read_later_is_read_at_the_end_to_the_last_bit(place, capsys):
    before = {path.name: path.read_bytes() for path in only(place / "runs").iterdir()}
    assert main(["probe", "runs", *ASK]) == 0
    assert "numbers in" in capsys.readouterr().out
    later, at_once = read_record(only(place / "runs")), read_record(only(place / "asked"))
    (member,) = later.probes
    assert member["run_id"] == later.run_id
    assert member["numbers"] == {name: at_once.result[name] for name in member["numbers"]}
    assert {"distance_rotate_10", "calibration_error", "site_1_removed_1", "untrained_site_1_removed_1"} <= set(
        member["numbers"]
    )
    after = {path.name: path.read_bytes() for path in only(place / "runs").iterdir()}
    assert {name: after[name] for name in before} == before
    assert len(after) == len(before) + 1
    # Asked again nothing is read, and other questions are another member.
    assert main(["probe", only(place / "runs").name, *ASK]) == 0
    assert "read before" in capsys.readouterr().out
    assert main(["probe", str(only(place / "runs")), "probe.consistency=[1]"]) == 0
    assert len(read_record(only(place / "runs")).probes) == 2


def test_what_cannot_be_read_is_refused(place, capsys):
    for words, said in (
        (["runs", "probe.rotat=[1]"], "probe.rotat"),
        (["runs", "probe.rotate=5"], "probe.rotate must be a list of degrees"),
        (["runs", "probe=none"], "nothing is asked for"),
        (["runs", "pool=max"], "pool=max: probe takes options of a probe only"),
        (["probe.rotate=[1]"], "say which cells"),
        (["nothing", "probe.rotate=[1]"], "there is no record 'nothing'"),
        (["runs", "probe.draws=[2]"], "no pool of this one draws"),
    ):
        assert main(["probe", *words]) == 2, words
        assert said in " ".join(capsys.readouterr().err.split()), words
    (only(place / "runs") / "checkpoint.pt").unlink()
    assert main(["probe", "runs", *ASK]) == 2
    assert "has no trained net" in capsys.readouterr().err
    assert not list((place / "runs").glob("*/probe-*"))


def test_one_of_several_that_cannot_be_read_does_not_keep_the_others(place, capsys):
    shutil.copytree(only(place / "asked"), place / "runs" / only(place / "asked").name)
    (only(place / "asked") / "checkpoint.pt").unlink()
    first, second = sorted((place / "runs").iterdir())
    (first / "checkpoint.pt").unlink()
    assert main(["probe", "runs", "probe.calibration=true"]) == 1
    assert "has no trained net" in capsys.readouterr().out
    assert len(list(second.glob("probe-*.json"))) == 1


def test_other_data_is_refused(place, capsys):
    folder = only(place / "runs")
    config = (folder / "config.yaml").read_text()
    line = next(line for line in config.splitlines() if line.startswith("data_fingerprint"))
    (folder / "config.yaml").write_text(config.replace(line, "data_fingerprint: another"))
    assert main(["probe", "runs", *ASK]) != 0
    assert "was trained on other data" in capsys.readouterr().err


def test_prune_knows_the_members(place):
    assert main(["probe", "runs", "probe.calibration=true"]) == 0
    (file,) = only(place / "runs").glob("probe-*.json")
    assert json.loads(file.read_text())["probe"] == {"calibration": True}
