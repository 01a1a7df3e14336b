"""The page of a report, ``index.html``: one file that asks for nothing else and can be read without JavaScript.

Charts are drawn by Vega-Lite, whose bundle comes out of the package vl-convert: it draws what a grammar says, so that
the code here says what is shown and not how, it is a fifth as large as Plotly's, and its charts can be saved as SVG.
"""

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from poolbench.messages import counted
from poolbench.records.files import write_text
from poolbench.report.factor import about, counted_arms
from poolbench.report.notes import RULE
from poolbench.report.page.content import by_group, page_content, pictures
from poolbench.report.page.sentences import headlines
from poolbench.report.summary import Row
from poolbench.report.tables import ACCURACY, COST, OVER_NETS, OVER_RULE, TESTS, TIMES, Column, over_title

if TYPE_CHECKING:
    from poolbench.report import Report

FILE = "index.html"
_HERE = Path(__file__).parent
_SCRIPTS = ("state.js", "table.js", "charts.js", "main.js")
_MARK = re.compile(r'<meta name="poolbench-page" content="(\w+)">')
_HEAD = 20_000  # letters among which the mark stands
_BAR = (150, 16)  # of an interval that is drawn in a table, in pixels
_STATIC: dict[str, Column] = {
    "accuracy": ACCURACY[2],
    "difference": ACCURACY[3],
    "verdict": ACCURACY[4],
    "best": ACCURACY[5],
    "blocks": TESTS[0],
    "time": TIMES["train_time_ratio"],
    "parameters": COST[0],
    "flops": COST[1],
}


@dataclass(frozen=True)
class Page:
    """What a page has beside the report itself.

    Args:
        title: its heading.
        claims: a row for each judgement, as :func:`poolbench.claims.words.claim_rows` gives them.
    """

    title: str = "Report"
    claims: Sequence[Mapping[str, Any]] = ()


def write_page(report: "Report", output: str | Path, page: Page) -> Path:
    """Write the page about ``report`` into the folder ``output``, as ``index.html``.

    A page that says the same already is left alone, whatever version of Vega it holds.
    """
    path = Path(output) / FILE
    content, title = page_content(report, page.claims), page.title
    told = _embedded(content)
    parts = [_HERE / name for name in ("page.html.j2", "page.css", *_SCRIPTS)]
    code = "".join(part.read_text(encoding="utf-8") for part in parts)
    images = pictures(content["pools"])
    shown = [title, told, code, repr(_over(report)), repr(sorted(images.items()))]
    mark = hashlib.sha256("\n".join(shown).encode()).hexdigest()[:16]
    if _mark_of(path) != mark:
        write_text(path, _page(report, title, content, told, mark, images))
    return path


def _page(
    report: "Report", title: str, content: Mapping[str, Any], told: str, mark: str, images: Mapping[str, str]
) -> str:
    import jinja2

    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True)
    template = environment.from_string((_HERE / "page.html.j2").read_text(encoding="utf-8"))
    arms = {one["name"]: one for one in content["pools"].values()}
    return template.render(
        title=title,
        mark=mark,
        about=_about(content, report.factor),
        headlines=headlines(content),
        factor=content["factor"],
        settings=[_static(rows, notes) for rows, notes in zip(by_group(report), _notes(report), strict=True)],
        over=_over(report),
        over_rule=OVER_RULE,
        claims=content["claims"],
        gallery=[{**arms[name], "picture": picture} for name, picture in images.items()],
        rule=about(RULE, report.factor),
        data=told,
        style=(_HERE / "page.css").read_text(encoding="utf-8"),
        vega=_vega(),
        script="\n".join((_HERE / name).read_text(encoding="utf-8") for name in _SCRIPTS),
    )


def _embedded(content: Mapping[str, Any]) -> str:
    """``content`` as JSON that no text in it can leave: names may be somebody else's."""
    text = json.dumps(content, ensure_ascii=True, separators=(",", ":"), allow_nan=False, default=str)
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


@cache
def _vega() -> str:
    """Vega, Vega-Lite and vega-embed, as one script that names them so."""
    import vl_convert

    return vl_convert.javascript_bundle().replace("</script", "<\\/script")


def _mark_of(path: Path) -> str:
    """What the page at ``path`` says that it shows; empty where there is none."""
    try:
        with path.open(encoding="utf-8") as file:
            found = _MARK.search(file.read(_HEAD))
    except (OSError, UnicodeDecodeError):
        return ""
    return found[1] if found else ""


def _about(content: Mapping[str, Any], factor: Sequence[str]) -> str:
    cells, settings = len(content["cells"]), len(content["settings"])
    arms = len({row["arm"] for row in content["rows"]})
    return f"{counted(cells, 'cell')}, {counted(settings, 'setting')}, {counted_arms(arms, factor)}."


def _notes(report: "Report") -> list[list[str]]:
    return [notes for _, notes in report.groups]


def _static(rows: Sequence[Row], notes: Sequence[str]) -> dict[str, Any]:
    """A setting as a table that needs no script."""
    bounds = [row[f"test_accuracy{end}"] for row in rows for end in ("", "_low", "_high")]
    known = [value for value in bounds if value is not None]
    span = (min(known), max(known)) if known else (0.0, 1.0)
    told = []
    for row in rows:
        texts = {name: column.text(row) for name, column in _STATIC.items()}
        told.append({"arm": row["pool"], "base": bool(row["baseline"]), "bar": _bar(row, span), **texts})
    return {"text": rows[0]["setting"], "rows": told, "notes": list(notes)}


def _bar(row: Mapping[str, Any], span: tuple[float, float]) -> str:
    """The accuracy of ``row`` with its interval, drawn."""
    width, height = _BAR
    if row["test_accuracy"] is None:
        return ""

    def at(value: float) -> str:
        share = (value - span[0]) / (span[1] - span[0]) if span[1] > span[0] else 0.5
        return f"{5 + (width - 10) * share:.1f}"

    mean, low, high = (row[f"test_accuracy{end}"] for end in ("", "_low", "_high"))
    middle = height // 2
    line = ""
    if low is not None:
        line = f'<path d="M{at(low)},{middle}H{at(high)}" stroke="currentColor" stroke-width="2"/>'
    dot = f'<circle cx="{at(mean)}" cy="{middle}" r="4" fill="currentColor"/>'
    return f'<svg width="{width}" height="{height}" aria-hidden="true">{line}{dot}</svg>'


def _over(report: "Report") -> list[dict[str, Any]]:
    """The tables over all nets, as texts."""
    found = []
    for _, rows in report.over.groupby("tuned", sort=True):
        texts = [[column.text(row) for column in OVER_NETS] for row in rows.to_dict("records")]
        found.append({"title": over_title(rows), "columns": [column.title for column in OVER_NETS], "rows": texts})
    return found
