"""Claims and their verdicts for people: on a terminal, in Markdown, and in the table of all experiments."""

import itertools
import math
import re
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal
from typing import Any

from poolbench.claims.arms import arm_words, metric_words
from poolbench.claims.claim import NO_RECORD, Claim, Judgement, Paper, amount, is_share
from poolbench.messages import counted
from poolbench.records.printable import printable
from poolbench.report.tables import DASH, plain_markdown
from poolbench.statistics.estimates import LEVEL, Estimate
from poolbench.statistics.words import CANNOT_TELL

RULE = (
    "In brackets: 95 % t intervals, rounded outwards. Gains are taken within blocks, one seed on one kind of "
    "processor, positive as the claim has it, with the spread that all arms of the net leave over. Verdicts are by "
    "rule 2: each is asked for from one side, at an error that is shared out, as Holm does, over the headline claims "
    "of the experiment, and over the others: the chance that any of a family is wrong is at most 5 %. How, and what "
    "rule 1 said: docs/claims.md."
)
_WIDTH = 100
_MOST_DIGITS = 8


def claims_text(judgements: Sequence[Judgement]) -> str:
    """Plain text, at most 100 columns: each claim, the paper's numbers, ours, the paired gain and the verdict."""
    lines = []
    for _, group in itertools.groupby(judgements, key=lambda judgement: judgement.claim.id):
        own = list(group)
        claim = own[0].claim
        lines += ["", *_wrapped(claim.says[:1].upper() + claim.says[1:], f"{claim.id}: ", "  ")]
        lines += _wrapped(paper_words(claim.paper, arrow="->"), "  paper      ", " " * 13)
        lines += _wrapped(_tested(claim), "  tested by  ", " " * 13)
        for judgement in own:
            lines += _judged(judgement)
            lines += _beside(judgement)
    return "\n".join(lines[1:]) + "\n" if lines else ""


def claims_markdown(judgements: Sequence[Judgement]) -> str:
    """A table, a row for each judgement, the notes, and what the numbers mean."""
    strata = any(judgement.stratum for judgement in judgements)
    head = [
        "claim",
        "paper",
        *(["cells"] if strata else []),
        "control",
        "treatment",
        "seeds",
        "gain",
        "what we can say",
    ]
    lines = [f"| {' | '.join(head)} |", f"|{'|'.join('---:' if name == 'seeds' else '---' for name in head)}|"]
    notes = []
    for judgement in judgements:
        claim, (control, treatment) = judgement.claim, arm_words(judgement.claim)
        cells = [
            f"{claim.says} ({_tested(claim)})",
            paper_words(claim.paper),
            *([judgement.stratum] if strata else []),
            f"{control}: {_value(claim.metric_control, judgement.control)}",
            f"{treatment}: {_value(claim.metric_treatment, judgement.treatment)}",
            str(judgement.gain.n),
            _gain(judgement),
            f"**{judgement.verdict}**{_reason(judgement)}{_level(judgement)}{_by_second(judgement)}",
        ]
        lines.append(f"| {' | '.join(map(_cell, cells))} |")
        who = ", ".join(filter(None, (claim.id, judgement.stratum)))
        notes += [f"- {plain_markdown(printable(f'{who}: {note}'))}" for note in judgement.notes]
    return "\n".join([*lines, "", *notes, *([""] if notes else []), RULE, ""])


def claim_rows(experiment: str, judgements: Iterable[Judgement]) -> list[dict[str, Any]]:
    """What the page of a report shows of each judgement, as texts; ``headline`` tells whether it is one."""
    rows = []
    for one in judgements:
        row = {"experiment": experiment, "id": one.claim.id, "says": one.claim.says, "headline": one.claim.headline}
        row |= {"cells": ", ".join(filter(None, (one.stratum, one.net))), "paper": paper_words(one.claim.paper)}
        row |= {"gain": _gain(one) if one.gain.n else DASH, "verdict": one.verdict, "why": one.why}
        rows.append(row | {"first": one.first.verdict if one.first else one.verdict})
    return rows


def history(experiments: Iterable[tuple[str, str, Sequence[Judgement], str]]) -> str:
    """The headline claims of all experiments as one Markdown table, a row a claim.

    Args:
        experiments: of each the name of its folder, which begins with the year, the idea, its judgements, and how many
            of its cells there are so far, empty when all.
    """
    lines = ["| year | idea | the paper's claim | here | what we can say |", "|---|---|---|---|---|"]
    for name, idea, judgements, so_far in experiments:
        told = f" ({'interim: ' if any(one.gain.n for one in judgements) else ''}{so_far})" if so_far else ""
        first = [name.partition("_")[0], f"[{_cell(idea)}](experiments/{name}){_cell(told)}"]
        headlines = [judgement for judgement in judgements if judgement.claim.headline]
        for _, group in itertools.groupby(headlines, key=lambda judgement: judgement.claim.id):
            lines.append(f"| {' | '.join([*first, *_headline(list(group))])} |")
            first = ["", ""]
    return "\n".join(lines) + "\n"


def fill(text: str, parts: Mapping[str, str]) -> str:
    """``text`` with what stands between ``<!-- NAME -->`` and the next ``<!-- end -->`` replaced by ``parts[NAME]``.

    Args:
        parts: by what the opening comment says, such as ``claims: 2012_overlapping`` or ``history``; an opening comment
            that is not among them keeps its part.
    """

    def replaced(match: re.Match[str]) -> str:
        own = parts.get(match[2])
        return match[0] if own is None else f"{match[1]}{own.strip()}\n{match[3]}"

    # Up to the next end: a part never holds the beginning of another one.
    pattern = r"(<!-- *([^\n]+?) *-->\n)(?:(?!<!--).)*(<!-- end -->)"
    return re.sub(pattern, replaced, text, flags=re.S)


def paper_words(paper: Paper, arrow: str = "→") -> str:
    """``CIFAR-10 test error: 9.31 → 9.08 %, a gain of 0.23 points (table 3, from memory)``."""
    if paper.gain is None:
        numbers = f"no number: {paper.unknown}"
    else:
        points = Decimal(repr(round(100 * paper.gain, 8))).normalize()
        what = "no difference" if points == 0 else f"a {'gain' if points > 0 else 'loss'} of {abs(points):f} point"
        what += "" if points == 0 or abs(points) == 1 else "s"
        both = ""
        if paper.control is not None and paper.treatment is not None:
            both = f"{_percent(paper.control)} {arrow} {_percent(paper.treatment)} %, "
        numbers = both + what
    metric = f"{paper.metric}: " if paper.metric != "-" else ""
    source = [
        text for text in (paper.where, paper.status if paper.status != "verified" else "") if text not in ("", "-")
    ]
    return f"{metric}{numbers}" + (f" ({', '.join(source)})" if source else "")


def interval_text(estimate: Estimate, share: bool, sign: bool = False, apart: Iterable[float] = ()) -> str:
    """``83.21 % [82.90, 83.52]``, of a difference ``+0.31 points [+0.02, +0.60]``.

    Bounds are rounded outwards, to as many digits as keep them on their side of 0 and of ``apart``.

    Args:
        share: whether the numbers are fractions, shown in percent or points.
        sign: of a difference.
    """
    if not estimate.n:
        return DASH
    scale, unit = (100, " points" if sign else " %") if share else (1, "")
    mean, low, high = (scale * value for value in (estimate.mean, estimate.low, estimate.high))
    form = "+" if sign else ""
    known = not math.isnan(low)
    digits = 2 if share else _digits(high - low if known else mean)
    lines = [Decimal(repr(scale * value)) for value in (0.0, *apart)]
    while known and digits < _MOST_DIGITS and not _keeps_sides(low, high, digits, lines):
        digits += 1
    text = f"{_rounded(mean, digits, None):{form},.{digits}f}{unit}"
    if not known:
        return text
    bounds = (_rounded(low, digits, ROUND_FLOOR), _rounded(high, digits, ROUND_CEILING))
    return f"{text} [{', '.join(f'{bound:{form},.{digits}f}' for bound in bounds)}]"


def _judged(judgement: Judgement) -> list[str]:
    claim = judgement.claim
    lines = [f"  {judgement.stratum}"] if judgement.stratum else []
    if judgement.verdict != NO_RECORD:
        words = arm_words(claim)
        values = (
            ("control", _value(claim.metric_control, judgement.control)),
            ("treatment", _value(claim.metric_treatment, judgement.treatment)),
        )
        room = max(len(value) for _, value in values)
        for (name, value), word in zip(values, words, strict=True):
            lines += _wrapped(f"{value:<{room}}  {word}", f"    {name:<11}", " " * (17 + room))
        lines += _wrapped(
            f"{_gain(judgement)}, {_count(judgement, 'paired, ')}",
            "    gain       ",
            " " * 15,
        )
    verdict = f"{judgement.verdict}{_reason(judgement)}{_level(judgement)}"
    lines += _wrapped(verdict, "    verdict    ", " " * 15)
    for note in judgement.notes:
        lines += _wrapped(note, "    note       ", " " * 15)
    return lines


def _headline(judgements: Sequence[Judgement]) -> list[str]:
    """Cells of a row: the claim, and for each stratum a line of what came out and of what it says."""
    claim, ours, said = judgements[0].claim, [], []
    for one in [one for one in judgements if one.over] or judgements:  # that row is the claim's in its family
        where = f"{one.stratum}: " if one.stratum else ""
        ours.append(_cell(f"{where}{_gain(one)}, {_count(one)}, {one.net}") if one.gain.n else DASH)
        said.append(_cell(f"{where}**{one.verdict}**{_reason(one)}"))
    return [_cell(f"{claim.says}. {paper_words(claim.paper)}"), "<br>".join(ours), "<br>".join(said)]


def _beside(judgement: Judgement) -> list[str]:
    """A line for the second metric, where one is declared."""
    text = _by_second(judgement).removeprefix("; ").replace("**", "")
    return _wrapped(text, "    second     ", " " * 15) if text else []


def _by_second(judgement: Judgement) -> str:
    """What the second metric says, in Markdown; empty where none is declared."""
    name, second = judgement.claim.second, judgement.second
    if not name:
        return ""
    if second is None or not second.gain.n:
        return f"; by {metric_words(name)}: no record"
    return f"; by {metric_words(name)}: {_gain(second)}, **{second.verdict}**{_reason(second)}"


def _count(judgement: Judgement, paired: str = "") -> str:
    """``3 seeds``, with ``paired`` before; of several nets ``5 nets``."""
    return counted(judgement.gain.n, "net") if judgement.over else f"{paired}{counted(judgement.gain.n, 'seed')}"


def _reason(judgement: Judgement) -> str:
    if not judgement.why:
        return ""
    return f" ({judgement.why})" if judgement.verdict == CANNOT_TELL else f": {judgement.why}"


def _level(judgement: Judgement) -> str:
    """The interval that decided, where it is not the one that is shown anyway."""
    if math.isclose(judgement.level, LEVEL) or math.isnan(judgement.judged.low):
        return ""
    share = _is_share(judgement.claim)
    shown = interval_text(judgement.judged, share, sign=True, apart=_apart(judgement.claim)).partition("[")[2]
    return f"; by the {100 * judgement.level:.4g} % interval [{shown}"


def _tested(claim: Claim) -> str:
    metrics = dict.fromkeys(metric_words(metric) for metric in (claim.metric_control, claim.metric_treatment))
    smallest = amount(claim, claim.smallest_difference)
    wider = f" (more than the paper's gain: {claim.wider})" if claim.wider else ""
    asked = {
        "better": f"a gain of {smallest} is of interest",
        "not_worse": f"a loss below {smallest} does not count",
        "equal": f"a difference below {smallest} does not count",
    }[claim.kind]
    return f"{' against '.join(metrics)}, {claim.direction} is better; {asked}{wider}"


def _value(metric: str, estimate: Estimate) -> str:
    return interval_text(estimate, is_share(metric))


def _gain(judgement: Judgement) -> str:
    return interval_text(judgement.gain, _is_share(judgement.claim), sign=True, apart=_apart(judgement.claim))


def _is_share(claim: Claim) -> bool:
    return is_share(claim.metric_control) and is_share(claim.metric_treatment)


def _apart(claim: Claim) -> tuple[float, float]:
    return claim.smallest_difference, -claim.smallest_difference


def _keeps_sides(low: float, high: float, digits: int, lines: Iterable[Decimal]) -> bool:
    """Whether the rounded bounds lie on the same sides of ``lines`` as the bounds themselves."""
    rounded = (_rounded(low, digits, ROUND_FLOOR), _rounded(high, digits, ROUND_CEILING))
    return all(
        (exact > line) == (shown > line) and (exact < line) == (shown < line)
        for exact, shown in zip(map(_exact, (low, high)), rounded, strict=True)
        for line in lines
    )


def _rounded(value: float, digits: int, rounding: str | None) -> Decimal:
    return _exact(value).quantize(Decimal(1).scaleb(-digits), rounding=rounding)


def _exact(value: float) -> Decimal:
    """``value`` without what a float adds in its last bits."""
    return Decimal(repr(round(value, _MOST_DIGITS + 2)))


def _digits(size: float) -> int:
    """Decimals that show two digits of a number of this size."""
    return min(_MOST_DIGITS, max(0, 1 - math.floor(math.log10(abs(size))))) if size else 0


def _percent(fraction: float) -> str:
    """Two decimals, or more where the paper gives more."""
    number = Decimal(repr(round(100 * fraction, 8)))
    return f"{number:f}" if -int(number.as_tuple().exponent) > 2 else f"{number:.2f}"


def _cell(text: str) -> str:
    """``text`` as a cell of a Markdown table."""
    return plain_markdown(printable(text)).replace("|", "\\|")


def _wrapped(text: str, first: str, rest: str) -> list[str]:
    return textwrap.wrap(printable(text), _WIDTH, initial_indent=first, subsequent_indent=rest, break_on_hyphens=False)
