"""The first lines of a page: what can be said, made from verdicts and intervals alone."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from poolbench.messages import counted

_MOST_NAMED = 6
_SUPPORTS, _SMALL, _CONTRADICTS = "supports", "supports, but too small to matter", "contradicts"


def headlines(content: Mapping[str, Any]) -> list[str]:
    """Sentences about the setting that is shown first, about all nets, and about claims.

    Args:
        content: as :func:`poolbench.report.page.content.page_content` gives it.
    """
    setting = content["settings"][content["start"]]
    rows = [row for row in content["rows"] if row["s"] == content["start"] and row["seeds"]]
    said = []
    if len(rows) > 1:
        said += [
            *_best(setting, rows),
            *_cost(rows),
            *_against_baseline(setting, rows, content["pairs"][content["start"]]),
        ]
    return [*said, *_claims(content["claims"])]


def _best(setting: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]) -> list[str]:
    first = max(rows, key=lambda row: row["test_accuracy"][0])
    mean, low, high = first["test_accuracy"]
    interval = f" ({100 * low:.1f} to {100 * high:.1f})" if low is not None else ""
    among = [row["arm"] for row in rows if row["best"] and row is not first]
    said = f"In {_short(setting)} {first['arm']} has the highest accuracy of {len(rows)}: {100 * mean:.1f} %{interval}"
    if all(row["best"] is None for row in rows):
        return [f"{said}. Too few seeds to say which others may be as good."]
    if first["best"] and not among:
        return [f"{said}. All others are surely less accurate."]
    return [f"{said}. Not told apart from the best: {_named([first['arm'], *among] if first['best'] else among)}."]


def _cost(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """What the best of a setting costs: in time, where nets were timed in turn, else in FLOPs."""
    first = max(rows, key=lambda row: row["test_accuracy"][0])
    control = next((row for row in rows if row["base"]), None)
    if control is None or first is control:
        return []
    time, flops, of = first["train_time_ratio"][0], first["forward_flops"], control["forward_flops"]
    parts = [] if time is None else [f"{time:.2f} times the training time"]
    parts += [] if flops is None or not of else [f"{flops / of:.2f} times the FLOPs"]
    more = round((first["parameters"] or 0) - (control["parameters"] or 0))
    parts += [f"{more:,} more weights"] if more > 0 else []
    return [f"Compared with {control['arm']} it takes {_listed(parts)}."] if parts else []


def _listed(parts: Sequence[str]) -> str:
    return f"{', '.join(parts[:-1])} and {parts[-1]}" if len(parts) > 1 else parts[0]


def _against_baseline(
    setting: Mapping[str, Any], rows: Sequence[Mapping[str, Any]], pairs: Mapping[str, Any] | None
) -> list[str]:
    control = next((row for row in rows if row["base"]), None)
    if control is None or pairs is None:
        return []
    arms = pairs["arms"]
    if control["arm"] not in arms:
        return []
    column = arms.index(control["arm"])
    verdicts = {
        row["arm"]: pairs["verdict"][arms.index(row["arm"])][column]
        for row in rows
        if row is not control and row["arm"] in arms and (row["blocks"] or 0) >= pairs["least"]
    }
    if not verdicts:
        return []
    by_letter = {letter: [arm for arm, one in verdicts.items() if one == letter] for letter in "hl-"}
    parts = [
        f"{words}: {_named(by_letter[letter])}"
        for letter, words in (("h", "surely more accurate"), ("l", "surely less"), ("-", "cannot tell"))
        if by_letter[letter]
    ]
    return [f"Against {control['arm']} there: {'; '.join(parts)}."]


def _claims(claims: Sequence[Mapping[str, Any]]) -> list[str]:
    headline = [claim for claim in claims if claim["headline"]]
    if not headline:
        return []
    found = Counter(claim["verdict"] for claim in headline)
    parts = [
        f"{found[verdict]} {words}"
        for verdict, words in (
            (_SUPPORTS, "supported"),
            (_SMALL, "supported but too small to matter"),
            (_CONTRADICTS, "contradicted"),
        )
        if found[verdict]
    ]
    decided = sum(found[verdict] for verdict in (_SUPPORTS, _SMALL, _CONTRADICTS))
    parts += [f"{len(headline) - decided} not decided"] if decided < len(headline) else []
    return [f"Of {counted(len(headline), 'headline claim')} of the papers: {', '.join(parts)}."]


def _short(setting: Mapping[str, Any]) -> str:
    """Net, data and budget; of what is compared itself there is nothing to name."""
    parts = [f"{setting[name]}" for name in ("model", "data") if setting[name]]
    epochs = setting["epochs"]
    budget = "" if epochs is None else f" ({counted(epochs, 'epoch')}{', tuned' if setting['tuned'] else ''})"
    return f"{' on '.join(parts) or setting['text']}{budget}"


def _named(arms: Sequence[str]) -> str:
    if len(arms) <= _MOST_NAMED:
        return ", ".join(arms)
    return f"{', '.join(arms[:_MOST_NAMED])} and {len(arms) - _MOST_NAMED} more"
