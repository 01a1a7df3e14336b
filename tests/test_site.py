"""The site of the documentation: built without a warning, all of it found from its index, nothing from other hosts."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from scripts.site_docstrings import as_markdown
from scripts.site_links import outside_of_code, placed, target

ROOT = Path(__file__).resolve().parents[1]
PAGES = sorted(path.name for path in (ROOT / "docs").glob("*.md"))


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """The folder of the site."""
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(folder)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    return folder


def test_the_index_leads_to_every_page_and_so_does_the_menu():
    index = (ROOT / "docs/index.md").read_text(encoding="utf-8")
    menu = (ROOT / "mkdocs.yml").read_text(encoding="utf-8").partition("\nnav:\n")[2].partition("\nnot_in_nav:")[0]
    others = [name for name in PAGES if name != "index.md"]
    assert len(others) > 20
    assert [name for name in others if f"]({name})" not in index] == []
    assert sorted(re.findall(r"^ *- (?:.+: )?(\w+\.md)$", menu, flags=re.M)) == sorted([*PAGES, "readme.md"])


def test_every_page_is_there_and_what_pages_show_too(site):
    assert [name for name in PAGES if not (site / name).with_suffix(".html").is_file()] == []
    for name in ("results/index.html", "results/2026_five_pools/accuracy.png", "pools/max.png", "readme.html"):
        assert (site / name).is_file(), name
    assert (site / "experiments/2012_overlapping/index.html").is_file()
    text = (site / "results.html").read_text(encoding="utf-8")
    assert 'href="experiments/2012_overlapping/index.html"' in text
    assert len(re.findall(r"<table>", text)) >= 2


def test_every_link_within_the_site_leads_to_a_file_of_it(site):
    # The page of all records is no page of the site's own.
    pages = [path for path in site.rglob("*.html") if path.name != "404.html" and path != site / "results/index.html"]
    assert len(pages) > len(PAGES)
    broken = []
    for page in pages:
        for link in re.findall(r'(?:href|src)="([^"#?]+)[^"]*"', page.read_text(encoding="utf-8")):
            if not re.match(r"\w+:", link) and not (page.parent / link).is_file():
                broken.append(f"{page.relative_to(site)}: {link}")
    assert broken == []


def test_a_page_asks_nothing_of_another_host(site):
    asked = []
    for path in [*site.rglob("*.html"), *site.rglob("*.css")]:
        if path == site / "results/index.html":  # a browser looks at that one: tests/report/page
            continue
        text = path.read_text(encoding="utf-8")
        asked += re.findall(r"<(?:script|img|iframe|source)\b[^>]*\bsrc=\"?(?:https?:)?//[^>]*>", text)
        asked += [tag for tag in re.findall(r"<link\b[^>]*>", text) if re.search(r"href=\"?(?:https?:)?//", tag)]
        asked += re.findall(r"(?:url\(|@import )[\"']?(?:https?:)?//[^)]*", text)
    assert asked == []


def test_formulas_are_drawn_and_functions_of_the_api_are_told(site):
    pools = (site / "pools.html").read_text(encoding="utf-8")
    source = (ROOT / "docs/pools.md").read_text(encoding="utf-8")
    assert pools.count("<math ") == source.count("```math\n") + len(re.findall(r"\$`[^`\n]+`\$", source))
    assert not re.search(r"formula\d+held", pools)
    api = (site / "api.html").read_text(encoding="utf-8")
    for name in ("plan", "sweep", "report", "reproduce", "race", "records", "NotDone"):
        assert f'id="poolbench.api.{name}"' in api
    assert "<strong>Returns.</strong>" in api
    assert not re.search(r":\w+:`", api)


@pytest.mark.parametrize(
    ("page", "link", "place"),
    [
        ("docs/usage.md", "claims.md#the-rule", "docs/claims.md"),
        ("docs/usage.md", "../CHANGELOG.md", "CHANGELOG.md"),
        ("docs/usage.md", "../results", "results/index.html"),
        ("README.md", "experiments/2012_overlapping", "experiments/2012_overlapping/README.md"),
        (
            "experiments/2012_overlapping/README.md",
            "../../results/2012_overlapping",
            "results/2012_overlapping/summary.md",
        ),
        ("docs/usage.md", "../conf", "conf"),
        ("docs/usage.md", "#limits", None),
        ("docs/usage.md", "https://semver.org", None),
    ],
)
def test_links_of_the_repository_have_their_places(page, link, place):
    assert target(page, link) == place


def test_readme_leaves_the_first_page_to_the_index():
    assert placed("README.md") == "readme.md"
    assert placed("docs/index.md") == "index.md"
    assert placed("experiments/2012_overlapping/README.md") == "experiments/2012_overlapping/README.md"


def test_fenced_code_stays_as_it_is():
    text = "one\n\n```\none\n```\n\none\n"
    assert outside_of_code(text, lambda part: part.replace("one", "two")) == "two\n\n```\none\n```\n\ntwo\n"


def test_docstrings_become_markdown():
    text = (
        "Do it, as :func:`plan` does.\n\nArgs:\n    a: ``1``.\nReturns: a thing\n    of two lines.\nRaises: ValueError."
    )
    assert as_markdown(text) == (
        "Do it, as `plan` does.\n\nArgs:\n    a: `1`.\n\n**Returns.** a thing\nof two lines.\n\n**Raises.** ValueError."
    )
