"""The generated docs are what the code says now."""

import importlib
import json
import re
import sys
from pathlib import Path

import pytest
import torch

import poolbench
from poolbench import create_head, create_model
from poolbench.heads import HEADS
from poolbench.models import MODELS
from poolbench.pooling import POOLS, parts
from poolbench.pooling.windows import over_windows

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "scripts"))
import refresh_docs  # noqa: E402 - a script, not a package
from pages import docstrings, heads, layers, markdown, models, pictures, pools, speed  # noqa: E402

FRESH = "make docs writes it anew"
KINDS = {"pool": POOLS, "head": HEADS, "model": MODELS}
COMPONENTS = [(kind, name) for kind, registry in KINDS.items() for name in registry.table]
every_page = pytest.mark.parametrize("page", refresh_docs.PAGES, ids=lambda path: path.stem)


def text_of(kind):
    return (ROOT / f"docs/{kind}s.md").read_text(encoding="utf-8")


def anchors(path):
    text = re.sub(r"^```.*?^```$", "", path.read_text(encoding="utf-8"), flags=re.M | re.S)
    return {line.lstrip("# ").lower() for line in text.splitlines() if line.startswith("#")}


@every_page
def test_the_page_is_fresh(page):
    assert page.read_text(encoding="utf-8") == refresh_docs.PAGES[page](), FRESH


@pytest.mark.parametrize("name", POOLS.table)
def test_its_picture_shows_the_numbers_of_today(name):
    shown = pictures.shown_numbers()
    assert pictures.alike(shown.get(name), pictures.pictured(name).tolist()), FRESH
    assert (ROOT / f"docs/pools/{name}.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(("kind", "name"), COMPONENTS)
def test_every_component_has_a_section_with_all_parts(kind, name):
    (section,) = re.findall(rf"^##+ {name}\n(.*?)(?=^##|\Z)", text_of(kind), flags=re.M | re.S)
    marks = {
        "pool": ("```math\n", f"![An 8x8 map and what {name} makes of it](pools/{name}.png)", "**Properties", "**Cost"),
        "head": ("**Cost.** ",),
        "model": ("**Layers**", "**Sites.**", "\n- `native`: 32", "\n| `head` | "),
    }
    for part in (*marks[kind], "**Options.**", "**When to use it.** ", "**Shape.** ", "**Source.** "):
        assert part in section, part
    assert re.search(r":\w+:`|\.\. math::|^===", section, flags=re.M) is None
    assert re.search(r"(?<!`)``(?!`)", section) is None
    config = docstrings.config_of(kind, name)
    options = docstrings.options_of(KINDS[kind].find(name), config)
    assert sorted(option for group, _ in options for option, _ in group) == sorted(config)
    for group, meaning in options:
        assert meaning
        assert not meaning.startswith("see ")
        assert all(f"`{option}` = `{default}`" in section for option, default in group)


@every_page
def test_every_link_of_the_page_leads_somewhere(page):
    text = re.sub(r"^```math\n.*?^```$", "", page.read_text(encoding="utf-8"), flags=re.M | re.S)
    links = re.findall(r"\]\(([^)]+)\)", text)
    assert links
    for link in links:
        file, _, anchor = link.partition("#")
        target = page.parent / file if file else page
        assert target.exists(), link
        assert not anchor or anchor in anchors(target), link


@every_page
def test_every_row_of_a_table_has_as_many_cells_as_its_head(page):
    tables = re.findall(r"(?:^\|.*\n)+", page.read_text(encoding="utf-8"), flags=re.M)
    assert tables
    for table in tables:
        assert len({len(re.findall(r"(?<!\\)\|", line)) for line in table.splitlines()}) == 1


@pytest.mark.parametrize("kind", KINDS)
def test_every_component_has_a_row_in_the_first_table(kind):
    table = re.search(r"(?:^\|.*\n)+", text_of(kind), flags=re.M)[0]
    assert re.findall(r"^\| \[`(\w+)`\]", table, flags=re.M) == list(KINDS[kind].table)


@pytest.mark.parametrize(
    ("name", "words"),
    [("max", "0"), ("strided_conv", "9 C² + 2 C"), ("leap", "4 C"), ("gated", "4"), ("adown", "2.5 C² + 2 C")],
)
def test_weights_of_pools_are_told_for_any_number_of_channels(name, words):
    assert pools.formula(name) == words


@pytest.mark.parametrize("name", HEADS.table)
def test_weights_of_heads_are_told_for_any_map_and_classes(name):
    words = heads.formula(name)
    terms = re.sub(r"(?<=[\dCKW²]) (?=[CKH])", "*", words.replace(",", "").replace("C²", "C*C"))
    weights = sum(p.numel() for p in create_head(name, channels=224, num_classes=7, size=(9, 5)).parameters())
    assert eval(terms, {"C": 224, "K": 7, "HW": 45}) == weights


def test_the_simplest_heads_have_the_weights_of_their_classifier():
    assert heads.formula("global_average") == "C K + K"
    assert heads.formula("flatten") == "C K HW + K"
    costs = heads.costs_of("global_average")
    assert costs["parameters"] == 2570
    assert costs["forward_flops"] == 2 * 2560 + 256 * 64  # a multiply-add a weight, an addition a value of the map
    assert heads.properties("global_average") == {"maps": "any", "loss": "cross-entropy", "fitted": "–"}
    assert heads.properties("flatten")["maps"] == "the one it is built for"


def test_the_row_of_a_model_has_its_published_numbers():
    (row,) = re.findall(r"^\| \[`resnet`\].*$", text_of("model"), flags=re.M)
    assert [cell.strip() for cell in row.split("|")][4:7] == ["269,722", "81.1", "32, no site, last 8"]


@pytest.mark.parametrize("name", MODELS.table)
def test_the_sizes_that_a_model_takes_are_those_that_it_can_be_built_for(name):
    least, most = models.limits(name, name)
    create_model(name, input_size=(least, least), **models.presets()[name][name])
    for beyond in [least - 1] * (least > 1) + ([] if most is None else [most + 1]):
        with pytest.raises(ValueError, match=r"do not fit|pixels"):
            create_model(name, input_size=(beyond, beyond), **models.presets()[name][name])


def test_every_file_of_a_model_has_a_row():
    files = {path.stem for path in (ROOT / "conf/model").glob("*.yaml")} - {"custom"}
    assert {choice for found in models.presets().values() for choice in found} == files


def test_layers_that_repeat_are_said_once():
    assert layers.gathered(["a"]) == ["a"]
    assert layers.gathered(["a", "b", "a", "b", "c", "c"]) == ["2 x (a, b)", "2 x c"]
    assert layers.gathered(["a", "b", "b", "a", "b", "b"]) == ["2 x (a, b, b)"]
    net = create_model("convnet", pool="average", widths=(4, 6), depths=(1, 2))
    assert layers.layers_of(net, (16, 16)) == [
        ("stage1", "conv 3x3 4, **pool** (`average`)", "4 x 8x8"),
        ("stage2", "2 x conv 3x3 6, **pool** (`average`)", "6 x 4x4"),
        ("head", "linear 10", "10"),
    ]


def test_a_docstring_becomes_markdown():
    rows = "=== =====\nk   value\n=== =====\na   ``1``\nb   2 | 3\n=== ====="
    text = f"A ``word``,\nand :math:`x^2`.\n\n.. math:: a\n    = b\n\n{rows}"
    table = "| k | value |\n|---|---|\n| a | `1` |\n| b | 2 \\| 3 |"
    assert markdown.markdown(text) == f"A `word`,\nand $`x^2`$.\n\n```math\na = b\n```\n\n{table}"


def test_last_digits_do_not_make_a_picture_old_and_others_do():
    numbers = [[0.1, 0.2], [0.3, 0.4]]
    assert pictures.alike(numbers, [[0.1, 0.2], [0.3, 0.401]])
    assert not pictures.alike(numbers, [[0.1, 0.2], [0.3, 0.41]])
    assert not pictures.alike(numbers, [[0.1, 0.2]])
    assert not pictures.alike(None, numbers)


@pytest.mark.parametrize("measured", [True, False])
def test_times_are_shown_where_they_were_measured(measured, tmp_path, monkeypatch):
    machine = {"cpu": "A chip", "capability": "AVX9", "cores": 2, "torch": "3.0", "allocator_kept": True}
    row = {"pool": "soft", "shape": speed.LARGE, "memory_format": "channels_last", "threads": 1, "multiple": 4.25}
    row |= {"forward_ms": 1.0, "backward_ms": 2.0, "total_ms": 3.0, "quartiles_ms": [2.5, 3.5], "floors": 6.0}
    row |= {"extra_memory": 0.5, "flops": 10**6}
    if measured:
        (tmp_path / "speed.json").write_text(json.dumps({"machine": machine, "rows": [row]}))
    monkeypatch.setattr(speed, "SPEED", tmp_path / "speed.json")
    speed.speed.cache_clear()  # which remembers the file that is there
    try:
        text, section = pools.page(), "\n".join(pools.section("soft"))
        unmeasured = "\n".join(pools.section("max"))
    finally:
        speed.speed.cache_clear()
    assert ("| 26 | 4.2 |" in text) is measured
    assert ("; 4.2 times max pooling in time. ONNX: yes, with" in section) is measured
    assert ("## Speed\n\nA chip (AVX9, 2 cores), torch 3.0" in text) is measured
    assert ("| `soft` | 1.0 | 2.0 | 3.0 (2.5 to 3.5) | 4.25 | 6.0 | 0.50 | 256 |" in text) is measured
    assert ("| 26 | – |" in text) is not measured
    assert "times max pooling" not in unmeasured


def test_refreshing_what_is_fresh_writes_nothing(capsys, monkeypatch):
    monkeypatch.setattr(refresh_docs, "write_text", lambda *_: pytest.fail("written"))
    monkeypatch.setattr(pictures, "draw", lambda *_: pytest.fail("drawn"))
    monkeypatch.setattr(pictures, "drawn_by", lambda: json.loads(pictures.NUMBERS.read_text())["drawn by"])
    # That the pages say what is true today is shown above.
    pages = {path: (lambda path=path: path.read_text(encoding="utf-8")) for path in refresh_docs.PAGES}
    monkeypatch.setattr(refresh_docs, "PAGES", pages)
    assert refresh_docs.main() == 0
    assert capsys.readouterr().out == ""


def test_every_pool_was_timed_in_every_setting():
    settings = [(s, f, t) for s in (speed.LARGE, speed.SMALL) for f in ("channels_last", "contiguous") for t in (1, 2)]
    for name in POOLS.table:
        for setting in settings:
            row = speed.timing(name, *setting)
            assert row is not None, (name, setting)
            assert "error" not in row, (name, setting)


def test_the_examples_of_extending_train():
    text = (ROOT / "docs/extending.md").read_text(encoding="utf-8")
    found = {}
    for code in re.findall(r"```python\n(.*?)```", text, flags=re.S):
        if "class Spread(" in code or "class MyModel(" in code:
            exec(code, found)
    models_with_them = [
        create_model("convnet", head=found["Spread"], widths=(4, 6), depths=(1, 1)),
        create_model(found["MyModel"], pool="max", width=4),
    ]
    for model in models_with_them:
        loss, _ = model.loss(torch.randn(4, 3, 16, 16), torch.arange(4))
        loss.backward()
        assert all(parameter.grad.isfinite().all() for parameter in model.parameters())


def test_the_examples_of_rectangles_and_sequences_give_what_they_say(capsys):
    text = (ROOT / "docs/library.md").read_text(encoding="utf-8")
    (code,) = (code for code in re.findall(r"```python\n(.*?)```", text, flags=re.S) if "dims=1" in code)
    exec(code, {})
    said = re.findall(r"print\(.*\)  # (\([\d, ]+\))", code)
    assert [line.removeprefix("torch.Size") for line in capsys.readouterr().out.splitlines()] == [
        f"([{shape.strip('()')}])" for shape in said
    ]
    assert len(said) == 2


def test_every_dotted_name_of_the_docs_and_of_published_records_leads_somewhere():
    pages = [
        ROOT / "README.md",
        ROOT / "CONTRIBUTING.md",
        *(ROOT / "docs").glob("*.md"),
        *(ROOT / "conf").rglob("*.yaml"),
    ]
    names = {name for page in pages for name in re.findall(r"\bpoolbench(?:\.[A-Za-z_]\w*)+", page.read_text("utf-8"))}
    for file in ROOT.glob("results/*/records.jsonl"):
        names |= set(re.findall(r'"_target_": ?"(poolbench(?:\.\w+)+)"', file.read_text("utf-8")))
    names -= {"poolbench.pools"}  # the group of entry points
    assert len(names) > 80
    for name in names:
        what = poolbench
        for part in name.split(".")[1:]:
            try:
                what = getattr(what, part)
            except AttributeError:
                what = importlib.import_module(f"{what.__name__}.{part}")
    assert over_windows is parts.windows.over_windows  # it moved, and users' pools import it by the name of before
