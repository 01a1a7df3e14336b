"""README: short, narrow, and each of its commands and examples works as it stands."""

import re
import shlex
from pathlib import Path

import pytest
import torch
from markdown_it import MarkdownIt
from PIL import Image

from poolbench.cli.main import main
from poolbench.pooling.lip import LipPool2d
from tests.report.page.browsing import CHROMIUM, MISSING, browser

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
LIKE_GITHUB = """
body { max-width: 800px; margin: 0; font: 16px/1.5 "Noto Sans", Arial, sans-serif; overflow-wrap: break-word }
img { max-width: 100% } pre { padding: 16px; overflow: auto; font-size: 85% } code { font: 85% monospace }
pre code { font-size: 100% } th, td { padding: 6px 13px; border: 1px solid }
table { display: block; width: max-content; max-width: 100%; overflow: auto; border-collapse: collapse }
"""

MY_NET = """
from torch import nn


def net(num_classes):
    return nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.MaxPool2d(2), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, num_classes)
    )
"""


def examples():
    return re.findall(r"^```python\n(.*?)^```", README, flags=re.M | re.S)


def commands():
    """What a reader types, whole lines of the blocks without a language."""
    blocks = re.findall(r"^```\n(.*?)^```", README, flags=re.M | re.S)
    lines = "".join(blocks).replace("\\\n", " ").splitlines()
    return [shlex.split(line) for line in lines if line.startswith("poolbench ")]


def page():
    return MarkdownIt("commonmark").enable("table").render(README)


def test_it_is_short_and_begins_with_the_question_and_a_command():
    words = re.sub(r"<[^>]+>", " ", page()).split()
    assert len(words) <= 850
    first = README.splitlines()[:10]
    assert any(line.endswith("?**") for line in first)
    assert any(line.startswith("make demo") for line in first)


def test_tables_are_narrow_and_their_cells_short():
    rows = [line for line in README.splitlines() if line.startswith("|")]
    assert len(rows) > 10
    assert max(map(len, rows)) <= 200
    assert max(len(cell.strip()) for row in rows for cell in row.strip("|").split("|")) <= 60


def test_every_link_and_picture_leads_somewhere():
    places = re.findall(r'(?:href|src)="([^"]+)"', page())
    assert len(places) > 20
    assert [place for place in places if not (ROOT / place.partition("#")[0]).exists()] == []
    assert "results/index.html" in places
    assert any(place.endswith(".png") for place in places)


def test_examples_have_ten_lines_at_most_and_the_pool_is_one(tmp_path, monkeypatch, capsys):
    assert len(examples()) == 2
    assert all(len(code.splitlines()) <= 10 for code in examples())
    (tmp_path / "minmax.py").write_text(examples()[1])
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    (minmax,) = [words for words in commands() if words[1] == "run"]
    small = [
        "data.train_samples=64",
        "data.test_samples=64",
        "trainer.batch_size=32",
        "data.size=16",
        "trainer.epochs=1",
        "model=convnet_small",
    ]
    assert main([*minmax[1:], *small]) == 0
    assert "test" in capsys.readouterr().out


def test_the_net_is_swapped(monkeypatch):
    # The weights of the example are a download: the net is built without them.
    code = examples()[0].replace('weights="DEFAULT"', "")
    assert code != examples()[0]
    found = {}
    exec(code, found)
    assert any(isinstance(module, LipPool2d) for module in found["net"].modules())
    assert found["net"].eval()(torch.zeros(1, 3, 64, 64)).shape == (1, 1000)


def test_its_sweeps_can_be_planned(tmp_path, monkeypatch, capsys):
    (tmp_path / "my.py").write_text(MY_NET)
    for name in ("a", "b"):
        (tmp_path / "pictures" / name).mkdir(parents=True)
        for number in range(8):
            Image.new("RGB", (8, 8), (number, 0, 0)).save(tmp_path / "pictures" / name / f"{number}.png")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("POOLBENCH_CACHE", str(tmp_path / "cache"))
    sweeps = [words[2:] for words in commands() if words[1] == "sweep"]
    assert len(sweeps) == 2
    for words in sweeps:
        own = "data=image_folder" in words
        # Of CIFAR-10 there may be no copy here.
        words = [word.replace("data=cifar10", "data=shapes") for word in words]
        assert main(["plan", *words, *(["trainer.batch_size=4"] if own else [])]) == 0
        assert f"{6 if own else 18} cells" in capsys.readouterr().out


@pytest.mark.skipif(CHROMIUM is None, reason=MISSING)
def test_nothing_is_scrolled_sideways_at_800_pixels(tmp_path):
    (tmp_path / "page.html").write_text(f'<base href="{ROOT.as_uri()}/"><style>{LIKE_GITHUB}</style>{page()}')
    wide = "() => [...document.querySelectorAll('html, pre, table')].filter(e => e.scrollWidth > e.clientWidth).length"
    with browser() as chromium:
        tab = chromium.new_page(viewport={"width": 800, "height": 900})
        tab.goto((tmp_path / "page.html").as_uri())
        assert tab.evaluate("() => document.querySelectorAll('pre, table').length") > 6
        assert tab.evaluate(wide) == 0
        assert tab.evaluate("() => document.querySelector('pre').getBoundingClientRect().bottom") < 900
