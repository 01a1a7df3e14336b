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
FRESH = "make docs writes it anew"


def test_the_page_of_pools_is_fresh():
    assert PAGE.read_text(encoding="utf-8") == refresh_docs.page(), FRESH


@pytest.mark.parametrize("name", POOLS.table)
def test_its_picture_shows_the_numbers_of_today(name):
    shown = refresh_docs.shown_numbers()
    assert refresh_docs.alike(shown.get(name), refresh_docs.pictured(name).tolist()), FRESH
    assert (ROOT / f"docs/pools/{name}.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("name", POOLS.table)
def test_every_pool_has_a_section_with_all_parts(name):
    text = PAGE.read_text(encoding="utf-8")
    (section,) = re.findall(rf"^### {name}\n(.*?)(?=^##|\Z)", text, flags=re.M | re.S)
    marks = ("Options", "When to use it", "Properties", "Shape", "Cost", "Source")
    for part in ("```math\n", f"![An 8x8 map and what {name} makes of it](pools/{name}.png)", *marks):
        assert part in section, part
    assert ":math:" not in section
    assert ":class:" not in section
    assert re.search(r"(?<!`)``(?!`)", section) is None
    described = [option for group, _ in refresh_docs.options_of(name) for option, _ in group]
    assert described == list(refresh_docs.config_of(name))
    for group, meaning in refresh_docs.options_of(name):
        assert meaning
        assert all(f"`{option}` = `{default}`" in section for option, default in group)


def test_every_link_of_the_page_leads_somewhere():
    text = re.sub(r"^```math\n.*?^```$", "", PAGE.read_text(encoding="utf-8"), flags=re.M | re.S)
    headings = {line.lstrip("# ").lower() for line in text.splitlines() if line.startswith("#")}
    links = re.findall(r"\]\(([^)]+)\)", text)
    assert len(links) >= 3 * len(POOLS.table)
    for link in links:
        assert link[1:] in headings if link.startswith("#") else (PAGE.parent / link).exists(), link


def test_every_row_of_a_table_has_as_many_cells_as_its_head():
    for table in re.findall(r"(?:^\|.*\n)+", PAGE.read_text(encoding="utf-8"), flags=re.M):
        counts = [len(re.findall(r"(?<!\\)\|", line)) for line in table.splitlines()]
        assert len(counts) == len(POOLS.table) + 2
        assert len(set(counts)) == 1


@pytest.mark.parametrize(
    ("name", "words"),
    [("max", "0"), ("strided_conv", "9 C² + 2 C"), ("leap", "4 C"), ("gated", "4"), ("adown", "2.5 C² + 2 C")],
)
def test_weights_are_told_for_any_number_of_channels(name, words):
    assert refresh_docs.formula(name) == words


def test_last_digits_do_not_make_a_picture_old_and_others_do():
    numbers = [[0.1, 0.2], [0.3, 0.4]]
    assert refresh_docs.alike(numbers, [[0.1, 0.2], [0.3, 0.401]])
    assert not refresh_docs.alike(numbers, [[0.1, 0.2], [0.3, 0.41]])
    assert not refresh_docs.alike(numbers, [[0.1, 0.2]])
    assert not refresh_docs.alike(None, numbers)


@pytest.mark.parametrize("measured", [True, False])
def test_times_are_shown_where_they_were_measured(measured, tmp_path, monkeypatch):
    machine = {"cpu": "A chip", "capability": "AVX9", "cores": 2, "torch": "3.0", "allocator_kept": True}
    row = {
        "pool": "soft",
        "shape": refresh_docs.LARGE,
        "memory_format": "channels_last",
        "threads": 1,
        "multiple": 4.25,
    }
    row |= {"forward_ms": 1.0, "backward_ms": 2.0, "total_ms": 3.0, "quartiles_ms": [2.5, 3.5], "floors": 6.0}
    row |= {"extra_memory": 0.5, "flops": 10**6}
    if measured:
        (tmp_path / "speed.json").write_text(json.dumps({"machine": machine, "rows": [row]}))
    monkeypatch.setattr(refresh_docs, "SPEED", tmp_path / "speed.json")
    refresh_docs.speed.cache_clear()  # which remembers the file that is there
    try:
        text, section = refresh_docs.page(), "\n".join(refresh_docs.section("soft"))
        unmeasured = "\n".join(refresh_docs.section("max"))
    finally:
        refresh_docs.speed.cache_clear()
    assert ("| 26 | 4.2 |" in text) is measured
    assert ("; 4.2 times max pooling in time. ONNX: yes." in section) is measured
    assert ("## Speed\n\nA chip (AVX9, 2 cores), torch 3.0" in text) is measured
    assert ("| `soft` | 1.0 | 2.0 | 3.0 (2.5 to 3.5) | 4.25 | 6.0 | 0.50 | 256 |" in text) is measured
    assert ("| 26 | – |" in text) is not measured
    assert "times max pooling" not in unmeasured


def test_refreshing_what_is_fresh_writes_nothing(capsys, monkeypatch):
    monkeypatch.setattr(refresh_docs, "write_text", lambda *_: pytest.fail("written"))
    monkeypatch.setattr(refresh_docs, "draw", lambda *_: pytest.fail("drawn"))
    monkeypatch.setattr(refresh_docs, "drawn_by", lambda: json.loads(refresh_docs.NUMBERS.read_text())["drawn by"])
    assert refresh_docs.main() == 0
    assert capsys.readouterr().out == ""


def test_every_pool_was_timed_in_every_setting():
    shapes = (refresh_docs.LARGE, refresh_docs.SMALL)
    settings = [(s, f, t) for s in shapes for f in ("channels_last", "contiguous") for t in (1, 2)]
    for name in POOLS.table:
        for setting in settings:
            row = refresh_docs.timing(name, *setting)
            assert row is not None, (name, setting)
            assert "error" not in row, (name, setting)
