import json
import subprocess
import sys

import pytest

from poolbench.records.collect import write_archive
from poolbench.records.read import RecordError, read_record, read_records
from tests.report.synthetic import make_config, make_runs, write_cell


def _change(path, **values):
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


def test_a_record_comes_back_as_it_was_written(tmp_path):
    config = make_config("lp", 3)
    record = read_record(write_cell(tmp_path, config, test_accuracy=0.75))
    assert record.run_id == config["run_id"]
    assert record.config == config
    assert record.result["test_accuracy"] == 0.75
    assert record.environment["cores"] == 2
    assert record.state == "done"
    assert [row["epoch"] for row in record.metrics] == list(range(1, 9))
    assert isinstance(record.metrics[0]["epoch"], int)
    assert record.metrics[0]["validation_accuracy"] is None


def test_an_archive_gives_the_records_it_was_written_from(tmp_path):
    records, _ = read_records(make_runs(tmp_path / "runs"))
    write_archive(records, tmp_path / "records.jsonl")
    again, problems = read_records(tmp_path / "records.jsonl")
    assert problems == []
    for a, b in zip(records, again, strict=True):
        assert (a.run_id, a.config, a.environment, a.result, a.metrics) == (
            *(b.run_id, b.config, b.environment, b.result, b.metrics),
        )
        # Machines are told apart in an archive and not named.
        assert {k: v for k, v in a.status.items() if k not in ("host", "pid")} == {
            k: v for k, v in b.status.items() if k != "host"
        }
        assert b.status["host"] != a.status["host"]


def test_folders_single_records_and_archives_may_be_mixed(tmp_path):
    make_runs(tmp_path / "a", ["max"])
    alone = write_cell(tmp_path / "b", make_config("lp"))
    write_archive(read_records(make_runs(tmp_path / "c", ["average"]))[0], tmp_path / "published" / "records.jsonl")
    records, problems = read_records([tmp_path / "a", alone, str(tmp_path / "published")])
    assert problems == []
    assert [record.config["names"]["pool"] for record in records] == ["average"] * 3 + ["lp"] + ["max"] * 3


def test_records_come_sorted_and_once_however_they_are_given(tmp_path):
    runs = make_runs(tmp_path / "runs")
    write_archive(read_records(runs)[0], tmp_path / "records.jsonl")
    records, problems = read_records([tmp_path / "records.jsonl", runs, *runs.iterdir()])
    assert problems == []
    assert [record.run_id for record in records] == sorted({path.name for path in runs.iterdir()})


@pytest.mark.parametrize(
    ("name", "spoil"),
    [
        ("config.yaml", lambda path: path.write_text(path.read_text()[:40])),
        ("config.yaml", lambda path: path.write_bytes(b"")),
        ("config.yaml", lambda path: path.unlink()),
        ("config.yaml", lambda path: path.write_bytes(b"\xff\xfe\x00")),
        ("result.json", lambda path: path.write_text(path.read_text()[:-20])),
        ("result.json", lambda path: path.write_text("[]")),
        ("result.json", lambda path: _change(path, run_id="another")),
        ("result.json", lambda path: _change(path, test_accuracy=None)),
        ("result.json", lambda path: _change(path, schema_version=None)),
        ("metrics.csv", lambda path: path.write_text(path.read_text()[:-5])),
        ("metrics.csv", lambda path: path.write_text("".join(path.read_text().splitlines(True)[:-1]))),
        ("metrics.csv", lambda path: path.write_text(path.read_text().replace("0.1,", "x,"))),
        ("metrics.csv", lambda path: path.unlink()),
        ("environment.json", lambda path: path.unlink()),
    ],
)
def test_a_broken_record_is_a_problem_in_one_line_and_hides_no_other(tmp_path, name, spoil):
    runs = make_runs(tmp_path / "runs", ["max"])
    broken = write_cell(runs, make_config("lp"))
    spoil(broken / name)
    records, problems = read_records(runs)
    assert [record.config["names"]["pool"] for record in records] == ["max"] * 3
    assert [problem.path for problem in problems] == [broken]
    assert name.partition(".")[0] in problems[0].reason
    assert "\n" not in str(problems[0])
    with pytest.raises(RecordError):
        read_record(broken)


def test_a_broken_line_of_an_archive_is_a_problem_and_hides_no_other(tmp_path):
    path = tmp_path / "records.jsonl"
    write_archive(read_records(make_runs(tmp_path / "runs", ["max"]))[0], path)
    lines = path.read_text().splitlines()
    path.write_text("\n".join([lines[0], lines[1][:-30], "", '{"run_id": "x"}', lines[2]]) + "\n")
    records, problems = read_records(path)
    assert len(records) == 2
    assert [problem.reason.partition(":")[0] for problem in problems] == ["line 2", "line 4"]


def test_a_running_cell_may_lack_files_and_the_end_of_a_row(tmp_path):
    folder = write_cell(tmp_path, make_config("max"), state="running")
    metrics = folder / "metrics.csv"
    metrics.write_text(metrics.read_text()[:-9])
    assert len(read_record(folder).metrics) == 7
    metrics.unlink()
    (folder / "environment.json").unlink()
    (folder / "status.json").unlink()
    record = read_record(folder)
    assert (record.metrics, record.environment, record.result, record.state) == ([], {}, None, "unknown")


def test_what_is_no_record_is_passed_over(tmp_path):
    runs = make_runs(tmp_path / "runs", ["max"], 1)
    write_cell(runs, make_config("lp")).rename(runs / "lp.damaged-1")
    write_cell(runs, make_config("lp")).rename(runs / ".hidden")
    (runs / "notes").mkdir()
    (runs / "notes" / "todo.txt").write_text("think")
    records, problems = read_records(runs)
    assert ([record.config["names"]["pool"] for record in records], problems) == (["max"], [])


def test_paths_that_hold_nothing_are_problems(tmp_path):
    (tmp_path / "empty").mkdir()
    records, problems = read_records([tmp_path / "empty", tmp_path / "missing"])
    assert records == []
    assert ["holds no record" in problems[0].reason, "no such file" in problems[1].reason] == [True, True]


@pytest.mark.parametrize("swap", [False, True])
def test_two_results_of_one_cell_are_a_problem_and_the_first_to_finish_is_kept(tmp_path, swap):
    config = make_config("max")
    write_cell(tmp_path / "a", config, test_accuracy=0.7, finished="2024-05-01T10:00:00+00:00")
    write_cell(tmp_path / "b", config, test_accuracy=0.9, finished="2024-05-02T10:00:00+00:00")
    paths = [tmp_path / "a", tmp_path / "b"]
    records, problems = read_records(paths[::-1] if swap else paths)
    assert [record.result["test_accuracy"] for record in records] == [0.7]
    assert len(problems) == 1
    assert str(tmp_path / "a") in str(problems[0])
    assert str(tmp_path / "b") in str(problems[0])


def test_of_a_finished_and_an_unfinished_record_of_one_cell_the_finished_is_kept(tmp_path):
    config = make_config("max")
    write_cell(tmp_path / "a", config, state="running")
    write_cell(tmp_path / "b", config)
    for paths in ([tmp_path / "a", tmp_path / "b"], [tmp_path / "b", tmp_path / "a"]):
        records, problems = read_records(paths)
        assert ([record.state for record in records], problems) == (["done"], [])


def test_a_record_of_another_schema_version_is_a_problem_and_hides_no_other(tmp_path):
    make_runs(tmp_path, ["max"])
    folder = write_cell(tmp_path, make_config("lp"), schema_version=2)
    _change(folder / "status.json", schema_version=2)
    records, (problem,) = read_records(tmp_path)
    assert {record.config["names"]["pool"] for record in records} == {"max"}
    assert str(problem) == f"{folder}: schema_version is 2, this poolbench reads 1"


def test_reading_imports_nothing_heavy():
    heavy = ("torch", "pandas", "numpy", "scipy", "matplotlib", "rich")
    code = f"import sys, poolbench.records.read\nprint([name for name in {heavy} if name in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


def test_what_was_read_later_takes_no_numbers_place(tmp_path):
    folder = write_cell(tmp_path, make_config("max", 0), test_accuracy=0.5)
    content = {"probe": {"calibration": True}, "numbers": {"test_accuracy": 0.9, "calibration_error": 0.1}}
    (folder / "probe-0123456789.json").write_text(json.dumps(content))
    numbers = read_record(folder).numbers
    assert (numbers["test_accuracy"], numbers["calibration_error"]) == (0.5, 0.1)
