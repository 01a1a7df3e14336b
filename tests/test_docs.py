"""The generated docs are what the code says now."""

import json
import re
import sys
from pathlib import Path

import pytest

from poolbench.pooling import POOLS

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "scripts"))
import refresh_docs  # noqa: E402 - a script, not a package

PAGE = ROOT / "docs/pools.md"
FRESH = "python scripts/refresh_docs.py writes it anew"


def test_the_page_of_pools_is_fresh():
    assert PAGE.read_text(encoding="utf-8") == refresh_docs.page(), FRESH


@pytest.mark.parametrize("name", POOLS.table)
def test_its_picture_shows_the_numbers_of_today(name):
    known = json.loads((ROOT / "docs/pools/pictures.json").read_text())
    assert known[name] == refresh_docs.picture_hash(name), FRESH
    assert (ROOT / f"docs/pools/{name}.png").stat().st_size > 1000


@pytest.mark.parametrize("name", POOLS.table)
def test_every_pool_has_a_section_with_all_parts(name):
    text = PAGE.read_text(encoding="utf-8")
    (section,) = re.findall(rf"^### {name}\n(.*?)(?=^##|\Z)", text, flags=re.M | re.S)
    for part in ("$$", "**When to use it.**", "**Properties.**", "**Cost.**", "**Source.**", f"pools/{name}.png"):
        assert part in section, part
    assert ":math:" not in section
    assert "``" not in section
    options = refresh_docs.options_of(name)
    assert all(f"- `{option}` = `{default}`: {meaning}" in section for option, default, meaning in options)
    assert all(meaning for _, _, meaning in options)


def test_every_pool_was_timed_in_every_setting():
    shapes = (refresh_docs.LARGE, refresh_docs.SMALL)
    settings = [(s, f, t) for s in shapes for f in ("channels_last", "contiguous") for t in (1, 2)]
    for name in POOLS.table:
        for setting in settings:
            row = refresh_docs.timing(name, *setting)
            assert row is not None, (name, setting)
            assert "error" not in row, (name, setting)
