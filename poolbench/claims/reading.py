"""Reading claims from ``claim.yaml``, with errors that name file, claim, key, value and what is allowed."""

import math
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from poolbench.checks import is_number
from poolbench.claims.claim import SECONDS, Claim, ClaimError, Paper, is_share, numbers_of
from poolbench.foreign import Unreadable, parsed_yaml, read_bytes
from poolbench.messages import described
from poolbench.records.collect import LABELS
from poolbench.records.printable import printable
from poolbench.registry import nearest

KINDS = ("better", "not_worse", "equal")
DIRECTIONS = ("higher", "lower")
STATUSES = ("verified", "computed", "from memory")
GROUPS = (*LABELS, "trainer", "probe")  # of the config; those in LABELS have a name that an arm can ask for

_REQUIRED = ("id", "says", "kind", "metric", "control", "treatment", "paper", "smallest_difference_of_interest")
_KEYS = (*_REQUIRED, "short", "headline", "direction", "where", "scales", "second", "wider_than_paper")
# What a claim may say anew for a scale of the sweep.
_AT_SCALE = ("says", "control", "treatment", "where", "metric", "paper")
_PAPER_KEYS = ("metric", "better", "control", "treatment", "gain", "where", "status", "unknown")
_METRIC = re.compile(r"[A-Za-z_][\w.+\-]*")


def read_claims(path: str | Path, scale: str | None = None, scales: Iterable[str] | None = None) -> list[Claim]:
    """The claims of the file ``path``, as they are tested at ``scale`` of its sweep; None: of one without scales.

    Args:
        scales: all that the sweep has, where that is known.
    Raises: ClaimError, naming file, claim, key, value and what is allowed, at whatever scale.
    """
    path = Path(path)
    place = "/".join(path.parts[-2:])
    try:
        content = parsed_yaml(read_bytes(path))
    except OSError as error:
        raise ClaimError(f"{place}: {error.strerror or error}") from error
    except Unreadable as error:
        raise ClaimError(f"{place} {error}") from error
    if not isinstance(content, list) or not content:
        what = f"holds {described(content)}, and must be a list of claims"
        raise ClaimError(f"{place} {what}, each with {', '.join(_REQUIRED)}")
    claims: dict[str, dict[str | None, Claim | None]] = {}  # id -> scale -> how it is tested there; None: elsewhere
    for number, item in enumerate(content, start=1):
        found = _at_scales(item, f"{place}, claim {number}")
        if scales is not None and (other := [key for key in found if key not in (None, *scales)]):
            known = list(scales)
            raise ClaimError(
                f"{place}, claim {number}: scales has {other[0]!r}.{nearest(str(other[0]), known)} "
                f"The sweep has {', '.join(known) or 'none'}"
            )
        name = next(claim.id for claim in found.values() if claim)
        if name in claims:
            raise ClaimError(f"{place}, claim {number}: id {name!r} is taken by another claim of the file")
        claims[name] = found
    chosen = [claim for found in claims.values() if (claim := found.get(scale, found[None]))]
    if not any(claim.headline for claim in chosen):
        there = f" that is tested at scale={scale}" if scale is not None else ""
        raise ClaimError(
            f"{place}: at least one claim{there} needs headline: true, which puts it into the table of all"
        )
    return chosen


def _at_scales(item: Any, where: str) -> dict[str | None, Claim | None]:
    """Scale -> the claim as it is tested there, None where it is not; under None as at all that are not named."""
    if not isinstance(item, dict):
        raise ClaimError(f"{where}: must have {', '.join(_REQUIRED)}, got {item!r}")
    if isinstance(item.get("id"), str):
        where = f"{where.rpartition(' ')[0]} {printable(item['id'])!r}"
    _check_keys(item, _KEYS, where, "A claim")
    found: dict[str | None, Claim | None] = {None: _claim(item, where)}
    scales = item.get("scales", {})
    if not isinstance(scales, dict):
        raise ClaimError(f"{where}: scales must be as {{paper: {{control: ...}}}} or {{paper: null}}, got {scales!r}")
    for scale, other in scales.items():
        if other is not None:
            if not isinstance(other, dict):
                raise ClaimError(
                    f"{where}: scales: {scale} must be null, where the claim is not tested, or have "
                    f"{', '.join(_AT_SCALE)}, got {other!r}"
                )
            _check_keys(other, _AT_SCALE, f"{where}: scales: {scale}", "It")
        found[str(scale)] = None if other is None else _claim({**item, **other}, f"{where} at scale={scale}")
    return found


def _claim(item: Mapping[str, Any], where: str) -> Claim:
    if missing := [key for key in _REQUIRED if key not in item]:
        raise ClaimError(f"{where}: {missing[0]} is missing")
    name = _text(item, "id", where)
    if not re.fullmatch(r"\w+", name):
        raise ClaimError(f"{where}: id must be letters, digits and underscores, got {name!r}")
    headline = item.get("headline", False)
    if not isinstance(headline, bool):
        raise ClaimError(f"{where}: headline must be true or false, got {headline!r}")
    metrics = item["metric"]
    if isinstance(metrics, dict):
        _check_keys(metrics, ("control", "treatment"), f"{where}: metric", "It")
        metrics = [metrics.get("control"), metrics.get("treatment")]
    else:
        metrics = [metrics, metrics]
    for metric in metrics:
        if not isinstance(metric, str) or not _is_metric(metric):
            raise ClaimError(
                f"{where}: metric must be a number of the record such as test_accuracy, a difference of two such as "
                f"'train_accuracy - test_accuracy', or {{control: ..., treatment: ...}}, got {metric!r}"
            )
    control, treatment, both = (_match(item, key, where) for key in ("control", "treatment", "where"))
    if both and (twice := [key for key in both if key in control or key in treatment]):
        raise ClaimError(f"{where}: where and an arm both say what {twice[0]} is")
    if control == treatment and metrics[0] == metrics[1]:
        raise ClaimError(f"{where}: control and treatment are the same, {control!r} and metric {metrics[0]!r}")
    smallest = item["smallest_difference_of_interest"]
    share = is_share(metrics[0]) and is_share(metrics[1])
    if not is_number(smallest) or smallest <= 0 or (share and smallest >= 1):
        allowed = "a fraction above 0 and below 1 (0.002 is 0.2 points)" if share else "a number above 0"
        raise ClaimError(f"{where}: smallest_difference_of_interest must be {allowed}, got {smallest!r}")
    paper = _paper(item["paper"], f"{where}: paper")
    kind = _one_of(item, "kind", KINDS, where)
    wider = _wider(item, kind, paper, where, share)
    second, second_smallest = _second(item, where)
    return Claim(
        id=name,
        says=_text(item, "says", where),
        headline=headline,
        kind=kind,
        metric_control=metrics[0],
        metric_treatment=metrics[1],
        direction=_one_of({"direction": "higher", **item}, "direction", DIRECTIONS, where),
        control=control,
        treatment=treatment,
        where=both,
        paper=paper,
        smallest_difference=float(smallest),
        wider=wider,
        second=second,
        second_smallest=second_smallest,
        short=_text(item, "short", where) if item.get("short") is not None else "",
    )


def _wider(item: Mapping[str, Any], kind: str, paper: Paper, where: str, share: bool) -> str:
    """Why the smallest difference of interest is more than the paper's gain; empty where it is not.

    Raises: ClaimError where the smallest difference of interest of a claim *better* is more than the paper gained,
    and nothing says why: such a claim is contradicted most likely when the paper is right."""
    smallest, key = item["smallest_difference_of_interest"], "wider_than_paper"
    wider = kind == "better" and share and paper.gain is not None and 0 < paper.gain < smallest - 1e-12
    why = _text(item, key, where) if item.get(key) is not None else ""
    if wider and not why:
        raise ClaimError(
            f"{where}: smallest_difference_of_interest is {smallest:g}, more than the paper's gain of "
            f"{paper.gain:.4g}: make it smaller, or say why it is in {key}"
        )
    return why if wider else ""


def _second(item: Mapping[str, Any], where: str) -> tuple[str, float]:
    """The second metric and its smallest difference of interest; an empty one where none is declared."""
    given = item.get("second")
    if given is None:
        return "", math.nan
    needs = ("metric", "smallest_difference_of_interest")
    if not isinstance(given, dict) or (missing := [key for key in needs if key not in given]):
        lacks = f"; {missing[0]} is missing" if isinstance(given, dict) else ""
        raise ClaimError(f"{where}: second must have {' and '.join(needs)}, got {given!r}{lacks}")
    _check_keys(given, needs, f"{where}: second", "It")
    metric = _one_of(given, "metric", tuple(SECONDS), f"{where}: second")
    smallest = given["smallest_difference_of_interest"]
    if not is_number(smallest) or smallest <= 0 or (metric != "test_loss" and smallest >= 1):
        allowed = (
            "a number above 0" if metric == "test_loss" else "a fraction above 0 and below 1 (0.002 is 0.2 points)"
        )
        raise ClaimError(f"{where}: second: smallest_difference_of_interest must be {allowed}, got {smallest!r}")
    return metric, float(smallest)


def _paper(item: Any, where: str) -> Paper:
    if not isinstance(item, dict):
        raise ClaimError(f"{where} must have {', '.join(_PAPER_KEYS)}, got {item!r}")
    _check_keys(item, _PAPER_KEYS, where, "It")
    numbers = {key: item.get(key) for key in ("control", "treatment", "gain")}
    for key, value in numbers.items():
        least = -1 if key == "gain" else 0
        if value is not None and not (is_number(value) and least <= value <= 1):
            hint = f"; {value} % is {value / 100:g}" if is_number(value) else ""
            raise ClaimError(f"{where}: {key} must be a fraction from {least} to 1, got {value!r}{hint}")
    unknown = _text(item, "unknown", where) if item.get("unknown") is not None else ""
    control, treatment, gain = numbers.values()
    if (control is None) != (treatment is None):
        raise ClaimError(f"{where}: control and treatment go together: give both, gain alone, or unknown")
    if bool(unknown) == (control is not None or gain is not None):
        raise ClaimError(f"{where}: give control and treatment, or gain, or unknown: why there is no number")
    better = _one_of(item, "better", DIRECTIONS, where)
    if control is not None:
        difference = (treatment - control) * (1 if better == "higher" else -1)
        if gain is not None and not math.isclose(gain, difference, abs_tol=1e-9):
            raise ClaimError(f"{where}: gain is {gain}, control and treatment give {difference:.6g}: leave one out")
        gain = difference
    # Where there is no number there may be nothing that could be looked up.
    status = "" if unknown and item.get("status") is None else _one_of(item, "status", STATUSES, where)
    return Paper(
        metric=_text(item, "metric", where),
        better=better,
        control=control,
        treatment=treatment,
        gain=gain,
        where=_text(item, "where", where),
        status=status,
        unknown=unknown,
    )


def _match(item: Mapping[str, Any], key: str, where: str) -> dict[str, Any]:
    """A partial match: group -> choice, dotted option -> plain value."""
    match = item.get(key, {})
    if not isinstance(match, dict):
        raise ClaimError(
            f"{where}: {key} must be a partial match such as {{pool: max, pool.padding: 0}}, got {match!r}"
        )
    for option, value in match.items():
        group, dot, _ = str(option).partition(".")
        if group not in GROUPS or (not dot and group not in LABELS):
            raise ClaimError(
                f"{where}: {key} has {option!r}.{nearest(group, list(GROUPS))} It takes the groups "
                f"{', '.join(LABELS)}, and options such as pool.padding or trainer.epochs"
            )
        if not dot and (not isinstance(value, str) or not value or "(" in value):
            raise ClaimError(
                f"{where}: {key}: {option} must be a choice as on the command line, such as max, got {value!r} "
                f"(its options: {option}.NAME: VALUE)"
            )
        if isinstance(value, dict):
            raise ClaimError(
                f"{where}: {key}: {option} must be a plain value, got {value!r}: write {option}.NAME: VALUE"
            )
    return {str(option): value for option, value in match.items()}


def _check_keys(item: Mapping[Any, Any], allowed: Iterable[str], where: str, who: str) -> None:
    allowed = list(allowed)
    for key in item:
        if key not in allowed:
            raise ClaimError(
                f"{where}: unknown key {key!r}.{nearest(str(key), allowed)} {who} may have {', '.join(allowed)}"
            )


def _one_of(item: Mapping[str, Any], key: str, allowed: tuple[str, ...], where: str) -> str:
    value = item.get(key)
    if value not in allowed:
        raise ClaimError(
            f"{where}: {key} must be {', '.join(allowed)}, got {value!r}.{nearest(str(value), list(allowed))}"
        )
    return value


def _text(item: Mapping[str, Any], key: str, where: str) -> str:
    value = item.get(key)
    if not isinstance(value, str) or not value.strip():
        raise ClaimError(f"{where}: {key} must be text, got {value!r}")
    return printable(" ".join(value.split()))


def _is_metric(text: str) -> bool:
    names = numbers_of(text)
    return len(names) <= 2 and all(map(_METRIC.fullmatch, names))
