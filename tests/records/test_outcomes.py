"""Which test images were right: packed to the bit, checked when read, compared between two."""

import json
import math
import random

import pytest

from poolbench.cli.main import main
from poolbench.records.collect import write_archive
from poolbench.records.difference import difference
from poolbench.records.outcomes import compared, packed, right_bits, wrong_outcomes
from poolbench.records.read import RecordError, read_record, read_records
from tests.report.synthetic import make_config, write_cell


def drawn(seed, images=103, classes=5, share=0.8):
    draw = random.Random(seed)
    labels = [number % classes for number in range(images)]
    return [draw.random() < share for _ in range(images)], labels, classes


@pytest.mark.parametrize("images", [1, 7, 8, 9, 103, 1000])
def test_bits_come_back_in_the_order_of_the_images(images):
    right, labels, classes = drawn(0, images)
    outcomes = packed(right, labels, classes)
    bits = f"{right_bits(outcomes):0{-(-images // 8) * 8}b}"
    assert bits[:images] == "".join("01"[one] for one in right)
    assert set(bits[images:]) <= {"0"}
    assert outcomes["images"] == images
    by_class = [sum(one for one, label in zip(right, labels, strict=True) if label == c) for c in range(classes)]
    assert outcomes["right_by_class"] == by_class
    assert sum(outcomes["images_by_class"]) == images
    assert wrong_outcomes(outcomes, sum(right) / images) is None


def test_two_are_compared_image_by_image():
    (a, labels, classes), (b, _, _) = drawn(1), drawn(2)
    found = compared(packed(a, labels, classes), packed(b, labels, classes))
    pairs = list(zip(a, b, strict=True))
    assert (found.both, found.only_a) == (pairs.count((True, True)), pairs.count((True, False)))
    assert (found.only_b, found.neither) == (pairs.count((False, True)), pairs.count((False, False)))
    gains = [int(y) - int(x) for x, y in pairs]
    mean = sum(gains) / len(gains)
    assert found.points == pytest.approx(100 * mean)
    variance = sum((gain - mean) ** 2 for gain in gains) / len(gains)
    assert found.spread == pytest.approx(100 * math.sqrt(variance / len(gains)))
    per_class = [gains[c::classes] for c in range(classes)]
    assert found.by_class == pytest.approx([100 * sum(own) / len(own) for own in per_class])
    assert compared(packed(a, labels, classes), packed(b[:-1], labels[:-1], classes)) is None


def cell(folder, seed=0, pool="max"):
    """A record whose accuracy is that of its outcomes."""
    right, labels, classes = drawn(seed)
    outcomes = packed(right, labels, classes)
    path = write_cell(folder, make_config(pool, seed), test_accuracy=sum(right) / len(right))
    (path / "outcomes.json").write_text(json.dumps(outcomes))
    return path, outcomes


def test_a_record_keeps_them_in_its_folder_and_in_an_archive(tmp_path):
    path, outcomes = cell(tmp_path / "runs")
    record = read_record(path)
    assert record.outcomes == outcomes
    plain = write_cell(tmp_path / "old", make_config("lp"))
    write_archive([record, read_record(plain)], tmp_path / "records.jsonl")
    records, problems = read_records(tmp_path / "records.jsonl")
    assert problems == []
    assert {one.run_id: one.outcomes for one in records} == {record.run_id: outcomes, plain.name: None}
    lines = [json.loads(line) for line in (tmp_path / "records.jsonl").read_text().splitlines()]
    assert sorted("outcomes" in line for line in lines) == [False, True]  # an archive of before stays as it is


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"images": 104}, "104 images are right, and test_accuracy|behind the last|of 104"),
        ({"images": 0}, "must have images"),
        ({"images": True}, "must have images"),
        ({"images": 10**9}, "must have images"),
        ({"images": 203}, "right has 13 bytes, and 203 images need 26"),
        ({"right": "!"}, "no base 64"),
        ({"right": None}, "must have images"),
        ({"right": "/" * 17 + "="}, "behind the last image|no base 64"),
        ({"right": "AAAAAAAAAAAAAAAAAA=="}, "0 of 103 images are right"),
        ({"right_by_class": [1]}, "do not add up"),
        ({"right_by_class": None}, "must be lists of counts"),
        ({"images_by_class": [-1, 104]}, "must be lists of counts"),
        ({"images_by_class": "x"}, "must be lists of counts"),
    ],
)
def test_what_is_none_is_a_problem_of_its_record(tmp_path, change, words):
    path, outcomes = cell(tmp_path)
    (path / "outcomes.json").write_text(json.dumps({**outcomes, **change}))
    with pytest.raises(RecordError, match=words):
        read_record(path)


def test_they_must_be_those_of_the_accuracy(tmp_path):
    path, _ = cell(tmp_path)
    result = json.loads((path / "result.json").read_text())
    (path / "result.json").write_text(json.dumps({**result, "test_accuracy": 0.5}))
    with pytest.raises(RecordError, match=r"of 103 images are right, and test_accuracy is 0\.5"):
        read_record(path)


def test_a_difference_tells_on_which_images(tmp_path, capsys):
    (a, first), (b, second) = cell(tmp_path, 1), cell(tmp_path, 2, "lp")
    found = difference(read_record(a), read_record(b))["images"]
    assert (found["only_a"], found["only_b"]) == (compared(first, second).only_a, compared(first, second).only_b)
    assert main(["diff", str(a), str(b)]) == 0
    text = " ".join(capsys.readouterr().out.split())
    assert f"of 103 test images a alone is right on {found['only_a']} and b alone on {found['only_b']}" in text
    assert "by class from" in text
    (b / "outcomes.json").unlink()
    assert difference(read_record(a), read_record(b))["images"] is None
