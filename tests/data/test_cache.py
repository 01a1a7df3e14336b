"""The cache of arrays: kept, shared, rebuilt when broken, done without when it cannot be written."""

import os
import subprocess
import sys
import time
import warnings
from pathlib import Path

import numpy as np
import pytest

from poolbench.data import cache
from poolbench.data.cache import Streamed, cache_folder, cache_key, cached_arrays, in_chunks, rows_of, temporary_folder


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("POOLBENCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(cache, "_warned", set())
    return tmp_path / "cache"


def build():
    return {"images": np.arange(24, dtype=np.uint8).reshape(2, 4, 3), "classes": np.array(["cat", "dog"])}


def refuse():
    raise AssertionError("built although it was in the cache")


def same(arrays):
    return set(arrays) == set(build()) and all(np.array_equal(arrays[k], v) for k, v in build().items())


def test_what_was_built_is_read_back_mapped():
    assert same(cached_arrays("set", "k", build))
    again = cached_arrays("set", "k", refuse)
    assert same(again)
    assert isinstance(again["images"], np.memmap)


def test_another_key_is_another_entry():
    cached_arrays("set", "k", build)
    other = cached_arrays("set", "l", lambda: {"images": np.zeros(3)})
    assert list(other) == ["images"]
    assert same(cached_arrays("set", "k", refuse))


def test_writing_to_a_mapped_array_leaves_the_file_alone():
    cached_arrays("set", "k", build)["images"][:] = 0
    assert same(cached_arrays("set", "k", refuse))


@pytest.mark.parametrize("harm", ["truncate", "remove", "no_index", "bad_index", "wrong_index", "empty"])
def test_a_broken_entry_is_built_again(folder, harm):
    cached_arrays("set", "k", build)
    entry = folder / "set-k"
    if harm == "truncate":
        with open(entry / "images.npy", "r+b") as file:
            file.truncate(100)
    elif harm == "remove":
        (entry / "images.npy").unlink()
    elif harm == "no_index":
        (entry / "index.json").unlink()
    elif harm == "bad_index":
        (entry / "index.json").write_text("{")
    elif harm == "wrong_index":
        (entry / "index.json").write_text("[1]")
    else:
        for file in entry.iterdir():
            file.unlink()
    assert same(cached_arrays("set", "k", build))
    assert same(cached_arrays("set", "k", refuse))
    assert [p.name for p in folder.iterdir()] == ["set-k"]


def test_a_build_that_fails_leaves_nothing(folder):
    with pytest.raises(ZeroDivisionError):
        cached_arrays("set", "k", lambda: 1 / 0)
    assert not folder.exists() or not list(folder.iterdir())


def test_a_write_that_fails_leaves_nothing(folder):
    with pytest.raises(ValueError, match="Object arrays"):
        cached_arrays("set", "k", lambda: {"good": np.zeros(3), "objects": np.array([None])})
    assert not list(folder.iterdir())


def test_an_unwritable_cache_warns_once_and_does_without(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("POOLBENCH_CACHE", str(tmp_path / "file" / "cache"))
    with pytest.warns(UserWarning, match="set POOLBENCH_CACHE"):
        assert same(cached_arrays("set", "k", build))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert same(cached_arrays("set", "k", build))


def test_folders_left_by_killed_processes_are_cleared_and_fresh_ones_kept(folder):
    for name, age in (("old", 2 * cache.ABANDONED_AFTER), ("new", 0)):
        left = folder / f".set-k.{name}.tmp"
        left.mkdir(parents=True)
        os.utime(left, (time.time() - age,) * 2)
    with temporary_folder(folder, "set-k"):
        pass
    assert [p.name for p in folder.iterdir()] == [".set-k.new.tmp"]


def streamed(count=10, chunk=3, made=None):
    """Rows that are filled with their number; ``made`` gets the size of each chunk when it is made."""

    def chunks():
        for start in range(0, count, chunk):
            rows = np.arange(start, min(start + chunk, count), dtype=np.uint8)
            if made is not None:
                made.append(len(rows))
            yield rows[:, None, None] * np.ones((2, 3), np.uint8)

    return Streamed((count, 2, 3), chunks, "rows")


def test_what_comes_in_chunks_is_kept_as_one_array_and_finished_from_the_disk():
    made = []

    def finish(arrays):
        assert isinstance(arrays["images"], np.memmap)
        return {**arrays, "sum": arrays["images"].sum()}

    arrays = cached_arrays("set", "k", lambda: {"images": streamed(made=made), "names": np.array(["a"])}, finish)
    assert arrays["images"][:, 1, 2].tolist() == list(range(10))
    assert made == [3, 3, 3, 1]
    assert set(arrays) == {"images", "names", "sum"}
    assert cached_arrays("set", "k", refuse)["sum"] == 6 * 45


def test_chunks_are_made_anew_in_memory_where_the_cache_cannot_be_written(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("POOLBENCH_CACHE", str(tmp_path / "file" / "cache"))
    with pytest.warns(UserWarning, match="set POOLBENCH_CACHE"):
        arrays = cached_arrays("set", "k", lambda: {"images": streamed()}, lambda a: {**a, "sum": a["images"].sum()})
    assert arrays["images"][:, 0, 0].tolist() == list(range(10))
    assert arrays["sum"] == 6 * 45


@pytest.mark.parametrize(
    "wrong",
    [
        Streamed((11, 2, 3), streamed().chunks, "rows"),
        Streamed((10, 2, 4), streamed().chunks, "rows"),
        Streamed((2,), lambda: [np.zeros(2)], "rows"),
    ],
)
def test_chunks_that_are_not_what_they_were_said_to_be_leave_nothing(folder, wrong):
    with pytest.raises(ValueError, match=r"rows: "):
        cached_arrays("set", "k", lambda: {"images": wrong})
    assert not list(folder.iterdir())


def test_chunks_cover_everything_once_and_stay_small():
    parts = list(in_chunks(1000, cache.CHUNK_BYTES // 300))
    assert [row for part in parts for row in range(part.start, part.stop)] == list(range(1000))
    assert max(part.stop - part.start for part in parts) == 300
    assert [part.stop for part in in_chunks(3, 2 * cache.CHUNK_BYTES)] == [1, 2, 3]
    assert list(in_chunks(0, 5)) == []


def test_many_rows_lie_in_a_file_without_a_name_and_few_in_memory(folder):
    images = np.arange(60, dtype=np.uint8).reshape(10, 2, 3)
    rows = np.array([1, 4, 7])
    few, many = rows_of(images, rows, most=18), rows_of(images, rows, most=17)
    assert np.array_equal(few, images[rows])
    assert np.array_equal(many, images[rows])
    assert isinstance(many, np.memmap)
    assert not isinstance(few, np.memmap)
    many[0] = 0  # a copy
    assert images[1].any()
    assert list(folder.iterdir()) == []


SMALL = """
import re, resource
import numpy as np
from poolbench.data import cache
from poolbench.data.base import with_statistics

cache.CHUNK_BYTES = 2**22
shape = (6000, 100, 100, 3)
def part(rows):
    return np.full((rows.stop - rows.start, *shape[1:]), 7, np.uint8)

images = cache.Streamed(shape, lambda: map(part, cache.in_chunks(shape[0], 30_000)), "images")
cache.cached_arrays("set", "warm", lambda: {"train_images": part(slice(0, 1))}, with_statistics)  # imports
used = int(re.search(r"VmData:\\s+(\\d+)", open("/proc/self/status").read())[1]) * 1024
resource.setrlimit(resource.RLIMIT_DATA, (used + 100_000_000,) * 2)
arrays = cache.cached_arrays("set", "k", lambda: {"train_images": images}, with_statistics)
assert isinstance(arrays["train_images"], np.memmap) and arrays["train_images"].shape == shape
assert arrays["train_images"][-1, -1, -1].tolist() == [7, 7, 7] and abs(arrays["mean"][0] - 7 / 255) < 1e-12
rows = cache.rows_of(arrays["train_images"], np.arange(4000), most=1000)
assert len(rows) == 4000 and rows[-1, 0, 0, 0] == 7
"""


@pytest.mark.skipif(sys.platform != "linux", reason="memory is bounded so on Linux alone")
def test_a_set_larger_than_memory_is_made_read_and_parted():
    """180 MB of images where 100 MB more may be asked for."""
    done = subprocess.run([sys.executable, "-W", "error", "-c", SMALL], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


RACER = """
import pathlib, sys, time
import numpy as np
from poolbench.data.cache import cached_arrays

def build():
    time.sleep(0.1)
    return {"images": np.arange(24, dtype=np.uint8)}

print("ready", flush=True)
sys.stdin.readline()
assert cached_arrays("set", "k", build)["images"].tolist() == list(range(24))
"""


def test_processes_that_build_at_once_end_with_one_good_entry(folder):
    racers = [
        subprocess.Popen([sys.executable, "-c", RACER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for _ in range(4)
    ]
    for racer in racers:
        assert racer.stdout.readline() == "ready\n"
    for racer in racers:
        racer.stdin.write("go\n")
        racer.stdin.flush()
    for racer in racers:
        racer.communicate(timeout=60)
    assert [racer.returncode for racer in racers] == [0] * 4
    assert cached_arrays("set", "k", refuse)["images"].tolist() == list(range(24))
    assert [p.name for p in folder.iterdir()] == ["set-k"]


def test_the_folder_is_chosen_by_the_environment(monkeypatch, tmp_path):
    monkeypatch.setenv("POOLBENCH_CACHE", "~/somewhere")
    assert cache_folder() == Path.home() / "somewhere"
    monkeypatch.setenv("POOLBENCH_CACHE", "")
    monkeypatch.setattr("sys.platform", "linux")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_folder() == tmp_path / "poolbench"
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert cache_folder() == Path.home() / ".cache" / "poolbench"
    monkeypatch.setattr("sys.platform", "darwin")
    assert cache_folder() == Path.home() / "Library" / "Caches" / "poolbench"
    monkeypatch.setattr("sys.platform", "win32")
    monkeypatch.setenv("LOCALAPPDATA", str(tmp_path / "local"))
    assert cache_folder() == tmp_path / "local" / "poolbench"


def test_keys_differ_when_their_parts_do():
    assert cache_key(1, "a") == cache_key(1, "a") != cache_key("1a")
    assert len(cache_key()) == 16
