"""CIFAR: torchvision's files and checksums, mirrors tried in turn, nothing of the user's ever replaced."""

import contextlib
import functools
import hashlib
import http.server
import pickle
import subprocess
import sys
import tarfile
import threading
import time
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
import torch
from omegaconf import OmegaConf
from torchvision import datasets

from poolbench.data import cifar
from poolbench.data.base import DataError
from poolbench.data.cifar import CIFAR10, CIFAR100

REPOSITORY = Path(__file__).parents[2]
REAL = REPOSITORY / ".." / "shared" / "data"
needs_cifar10 = pytest.mark.skipif(
    not (REAL / CIFAR10.folder).is_dir(), reason=f"needs the real CIFAR-10 at ../shared/data/{CIFAR10.folder}"
)


@pytest.fixture(autouse=True)
def surroundings(tmp_path, monkeypatch):
    monkeypatch.setenv("POOLBENCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("no_proxy", "127.0.0.1")


def md5(path):
    return hashlib.md5(path.read_bytes(), usedforsecurity=False).hexdigest()


@pytest.fixture(scope="session")
def published(tmp_path_factory):
    """What a host publishes: a folder with the archive of a tiny set, and torchvision's description of that set."""
    host = tmp_path_factory.mktemp("host")
    folder = host / "tiny-py"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for name, samples in (("train", 8), ("test", 4)):
        batch = {
            "data": rng.integers(0, 256, (samples, 3072), dtype=np.uint8),
            "labels": [i % 2 for i in range(samples)],
        }
        (folder / name).write_bytes(pickle.dumps(batch))
    (folder / "meta").write_bytes(pickle.dumps({"label_names": ["cat", "dog"]}))
    with tarfile.open(host / "tiny.tar.gz", "w:gz") as archive:
        archive.add(folder, "tiny-py")
    (host / "corrupt.tar.gz").write_bytes((host / "tiny.tar.gz").read_bytes()[:-20] + bytes(20))

    class TorchvisionTiny(datasets.CIFAR10):
        base_folder, filename, tgz_md5 = "tiny-py", "tiny.tar.gz", md5(host / "tiny.tar.gz")
        train_list = (("train", md5(folder / "train")),)
        test_list = (("test", md5(folder / "test")),)
        meta: ClassVar = {"filename": "meta", "key": "label_names", "md5": md5(folder / "meta")}

    return host, TorchvisionTiny


@pytest.fixture
def tiny(published):
    """A source of that tiny set."""
    _, described = published

    class Tiny(CIFAR10):
        name, title, folder, classes = "tiny", "Tiny", "tiny-py", ("cat", "dog")
        files: ClassVar = {"train": 8 * 3072, "test": 4 * 3072, "meta": 1}
        train_samples, test_samples, stall, archive_bytes = 8, 4, 0.5, 1_000_000

        def torchvision_class(self):
            return described

    return Tiny


class Host(http.server.SimpleHTTPRequestHandler):
    """Files of a folder; /silent/ says nothing, /stuck/ stops in the middle of the file, /slow/ sends it in drops,
    /endless/ without an end; of /heads/ the head of the answer comes in drops."""

    def do_GET(self):
        self.server.asked.append(self.path)
        if self.path.startswith("/endless/"):
            return self._send_for_ever(b"x" * 65536, 0)
        if self.path.startswith("/heads/"):
            self.wfile.write(b"HTTP/1.0 200 OK\r\n")
            return self._send_for_ever(b"X-Y: z\r\n", 0.05)
        if not self.path.startswith(("/silent/", "/stuck/", "/slow/")):
            return super().do_GET()
        if self.path.startswith("/silent/"):
            return self.server.closing.wait()
        self.send_response(200)
        self.send_header("Content-Length", "100000")
        self.end_headers()
        self.wfile.write(b"beginning")
        self.wfile.flush()
        with contextlib.suppress(OSError):  # the other side hangs up
            while not self.server.closing.wait(0.05):
                if self.path.startswith("/slow/"):
                    self.wfile.write(b".")
                    self.wfile.flush()

    def _send_for_ever(self, what, pause):
        if not pause:
            self.send_response(200)
            self.end_headers()
        with contextlib.suppress(OSError):
            while not self.server.closing.wait(pause):
                self.wfile.write(what)
                self.wfile.flush()
                self.server.sent += len(what)

    def log_message(self, *_):
        pass


@pytest.fixture
def server(published):
    handler = functools.partial(Host, directory=str(published[0]))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        server.asked, server.closing, server.sent = [], threading.Event(), 0
        server.url = f"http://127.0.0.1:{server.server_port}"
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        yield server
        server.closing.set()
        server.shutdown()


def unpack(published, root):
    with tarfile.open(published[0] / "tiny.tar.gz") as archive:
        archive.extractall(root, filter="data")
    return root / "tiny-py"


def is_published(images, published):
    data = pickle.loads((published[0] / "tiny-py" / "train").read_bytes())["data"]
    return np.array_equal(images.train_images, data.reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1))


# --- downloading


def test_mirrors_are_tried_in_turn_until_one_is_good(tiny, server, published, tmp_path):
    paths = ["/missing.tar.gz", "/corrupt.tar.gz", "/tiny.tar.gz?download=1", "/never-asked.tar.gz"]
    source = tiny(root=tmp_path / "data", mirrors=[server.url + path for path in paths])
    source.check()
    assert is_published(source.load(0), published)
    assert server.asked == paths[:3]
    assert [p.name for p in (tmp_path / "data").iterdir()] == ["tiny-py"]  # no archive, nothing temporary


@pytest.mark.parametrize("path", ["/silent/a.tar.gz", "/stuck/a.tar.gz", "/slow/a.tar.gz"])
def test_a_host_that_is_silent_or_slow_is_given_up(tiny, server, published, tmp_path, path):
    source = tiny(root=tmp_path / "data", mirrors=[server.url + path, f"{server.url}/tiny.tar.gz"])
    assert is_published(source.load(0), published)
    assert server.asked == [path, "/tiny.tar.gz"]


def test_when_all_mirrors_fail_each_reason_and_the_ways_out_are_told(tiny, server, tmp_path):
    closed = "http://127.0.0.1:9/tiny.tar.gz"
    urls = [f"{server.url}/missing.tar.gz", f"{server.url}/corrupt.tar.gz", closed, "nonsense"]
    with pytest.raises(DataError) as caught:
        tiny(root=tmp_path / "data", mirrors=urls).prepare()
    message = str(caught.value)
    lines = message.splitlines()
    assert [line.split(": ")[0].strip() for line in lines[1:5]] == urls
    assert "404" in lines[1]
    assert "wrong checksum" in lines[2]
    assert "refused" in lines[3]
    for way_out in ("extracted folder tiny-py under data.root", "data.mirrors=[", "data=shapes"):
        assert way_out in lines[5]
    assert not list((tmp_path / "data").iterdir())  # nothing that looks like data


def test_without_mirrors_the_message_says_so(tiny, tmp_path):
    with pytest.raises(DataError, match=r"data\.mirrors is empty"):
        tiny(root=tmp_path, mirrors=[]).prepare()


def test_a_root_that_cannot_be_written_is_named(tiny, server, tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(DataError, match=r"cannot be written to data\.root=.*file"):
        tiny(root=tmp_path / "file" / "data", mirrors=[f"{server.url}/tiny.tar.gz"]).prepare()


def test_an_interrupted_download_leaves_nothing(tiny, tmp_path, server, monkeypatch):
    def interrupt(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr("torchvision.datasets.utils.extract_archive", interrupt)
    with pytest.raises(KeyboardInterrupt):
        tiny(root=tmp_path / "data", mirrors=[f"{server.url}/tiny.tar.gz"]).prepare()
    assert not list((tmp_path / "data").iterdir())


def test_two_downloads_at_once_both_succeed(tiny, server, published, tmp_path):
    sources = [tiny(root=tmp_path / "data", mirrors=[f"{server.url}/tiny.tar.gz"]) for _ in range(4)]
    threads = [
        threading.Thread(target=source.get, args=([],)) for source in sources
    ]  # past the look whether it is there
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(is_published(source.load(0), published) for source in sources)
    assert [p.name for p in (tmp_path / "data").iterdir()] == ["tiny-py"]


def test_what_is_there_is_never_asked_for_again(tiny, server, published, tmp_path):
    unpack(published, tmp_path / "data")
    assert is_published(tiny(root=tmp_path / "data", mirrors=[f"{server.url}/tiny.tar.gz"]).load(0), published)
    assert server.asked == []


# --- data that is absent or damaged


def test_absent_data_may_be_downloaded_or_is_an_error(tiny, tmp_path):
    tiny(root=tmp_path / "nowhere").check()
    source = tiny(root=tmp_path / "nowhere", download=False)
    for look in (source.check, source.info, source.prepare, lambda: source.load(0)):
        with pytest.raises(DataError, match=r"is not at .*tiny-py and data\.download is false"):
            look()
    assert not (tmp_path / "nowhere").exists()


@pytest.mark.parametrize("download", [True, False])
def test_an_incomplete_folder_is_named_and_left_alone(tiny, server, published, tmp_path, download):
    folder = unpack(published, tmp_path / "data")
    (folder / "test").unlink()
    source = tiny(root=tmp_path / "data", download=download, mirrors=[f"{server.url}/tiny.tar.gz"])
    for look in (source.check, source.prepare):
        with pytest.raises(DataError, match=r"tiny-py is incomplete: test is missing"):
            look()
    assert server.asked == []
    assert sorted(p.name for p in folder.iterdir()) == ["meta", "train"]


def test_a_file_cut_short_is_found_without_reading_it(tiny, published, tmp_path):
    folder = unpack(published, tmp_path / "data")
    with open(folder / "train", "r+b") as file:
        file.truncate(1000)
    with pytest.raises(DataError, match=r"tiny-py/train is cut short \(1000 bytes\)"):
        tiny(root=tmp_path / "data").check()


def test_a_mirror_without_an_end_is_left_at_the_size_of_the_archive(tiny, server, published, tmp_path):
    source = tiny(root=tmp_path / "data", mirrors=[f"{server.url}/endless/tiny.tar.gz"])
    with pytest.raises(DataError, match=r"it sends more than the 1,000,000 bytes of the archive"):
        source.load(0)
    assert server.sent < 20_000_000  # what lay between it and us
    assert list((tmp_path / "data").iterdir()) == []
    assert is_published(
        tiny(root=tmp_path / "data", mirrors=[*source.mirrors, f"{server.url}/tiny.tar.gz"]).load(0), published
    )


def test_a_mirror_whose_head_comes_in_drops_is_left(tiny, server, tmp_path):
    began = time.monotonic()
    with pytest.raises(DataError, match=r"no answer within 0\.5 seconds"):
        tiny(root=tmp_path / "data", mirrors=[f"{server.url}/heads/tiny.tar.gz"]).load(0)
    assert time.monotonic() - began < 30  # and not for as long as it sends


@pytest.mark.parametrize("name", ["train", "test", "meta"])
def test_a_file_with_a_wrong_checksum_is_named_and_left_alone(tiny, server, published, tmp_path, name):
    damaged = unpack(published, tmp_path / "data") / name
    content = damaged.read_bytes()
    damaged.write_bytes(content[:-3] + b"???")
    source = tiny(root=tmp_path / "data", mirrors=[f"{server.url}/tiny.tar.gz"])
    with pytest.raises(DataError, match=rf"damaged \(wrong checksum\): \S*{name}\. .*move .*tiny-py away"):
        source.load(0)
    assert damaged.read_bytes() == content[:-3] + b"???"
    assert server.asked == []
    damaged.write_bytes(content)
    assert is_published(source.load(0), published)


def test_checksums_are_verified_once(tiny, published, tmp_path, monkeypatch):
    folder = unpack(published, tmp_path / "data")
    source = tiny(root=tmp_path / "data")
    source.prepare()
    monkeypatch.setattr(tiny, "build", lambda self: pytest.fail("read the files again"))
    assert is_published(source.load(0), published)
    monkeypatch.undo()
    monkeypatch.setenv("POOLBENCH_CACHE", str(tmp_path / "cache"))
    before = source.cache_key()
    (folder / "train").touch()
    assert source.cache_key() != before


def test_a_set_that_cannot_be_written_is_only_read(tiny, published, tmp_path):
    folder = unpack(published, tmp_path / "data")
    before = {p: p.stat().st_mtime_ns for p in (tmp_path / "data").rglob("*")}
    for path in (folder, tmp_path / "data"):
        path.chmod(0o555)
    try:
        assert is_published(tiny(root=tmp_path / "data").load(0), published)
        assert {p: p.stat().st_mtime_ns for p in (tmp_path / "data").rglob("*")} == before
    finally:
        for path in (tmp_path / "data", folder):
            path.chmod(0o755)


# --- the real sets


@pytest.mark.parametrize(("ours", "theirs"), [(CIFAR10, datasets.CIFAR10), (CIFAR100, datasets.CIFAR100)])
def test_names_agree_with_torchvision(ours, theirs):
    assert ours().torchvision_class() is theirs
    assert ours.folder == theirs.base_folder
    assert set(ours.files) == {name for name, _ in theirs.train_list + theirs.test_list} | {theirs.meta["filename"]}
    assert theirs.tgz_md5.startswith(ours.fingerprint)
    assert ours().mirrors[-1] == theirs.url
    assert all(theirs.filename in url for url in ours().mirrors)


@pytest.mark.parametrize(("source", "name", "count"), [(CIFAR10, "cifar10", 10), (CIFAR100, "cifar100", 100)])
def test_the_yaml_shows_the_defaults(source, name, count):
    config = OmegaConf.to_container(OmegaConf.load(REPOSITORY / "conf" / "data" / f"{name}.yaml"))
    assert config.pop("_target_") == f"poolbench.data.{source.__name__}"
    assert list(config) == [
        "root",
        "download",
        "mirrors",
        "validation",
        "augmentation",
        "train_samples",
        "test_samples",
    ]
    assert vars(source(**config)) == vars(source())
    assert source.name == name
    assert source().info().num_classes == count == len(set(source.classes))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"download": "yes"}, r"data\.download must be true or false, got 'yes'"),
        ({"mirrors": "https://a"}, r"data\.mirrors must be a list of URLs, got 'https://a'"),
        ({"mirrors": [1]}, r"data\.mirrors must be a list of URLs"),
        ({"augmentation": {"crop": 32}}, r"data\.augmentation\.crop"),
        ({"validation": 2}, r"data\.validation"),
    ],
)
def test_wrong_options_are_refused_by_name(options, message):
    with pytest.raises(ValueError, match=message):
        CIFAR10(**options)


@needs_cifar10
def test_cifar10_is_what_torchvision_reads(tmp_path):
    source = CIFAR10(root=REAL, download=False, validation=0.1)
    source.check()
    images = source.load(0)
    raw = datasets.CIFAR10(REAL, train=False)
    assert np.array_equal(images.test_images, raw.data)
    assert images.test_labels.tolist() == raw.targets
    assert images.classes == source.classes == tuple(raw.classes)
    assert (len(images.train_images), len(images.validation_images)) == (45_000, 5_000)
    assert torch.bincount(torch.cat([images.train_labels, images.validation_labels])).tolist() == [5000] * 10
    assert [round(value, 3) for value in images.mean] == [0.491, 0.482, 0.447]
    assert [round(value, 3) for value in images.std] == [0.247, 0.243, 0.262]
    assert source.info().train_samples == 50_000


@needs_cifar10
def test_looking_at_cifar10_needs_no_torch():
    code = (
        "import sys; from poolbench.data.cifar import CIFAR10\n"
        f"source = CIFAR10({str(REAL)!r}, download=False); source.check(); source.info(); source.cache_key()\n"
        "assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_mirrors_are_distinct_and_secure():
    for mirrors in (cifar.CIFAR10_MIRRORS, cifar.CIFAR100_MIRRORS):
        assert len(set(mirrors)) == len(mirrors)
        assert all(url.startswith("https://") for url in mirrors)
