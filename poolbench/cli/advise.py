"""Which pools keep your limits, and what to expect of them in a net that was not tried, from records alone.

  poolbench advise                                    all published experiments, against max
  poolbench advise --cost 1.1 --onnx --sites 3        what costs at most 1.1 times max, exports, and takes 3 sites
  poolbench advise --records runs more/records.jsonl --control average

"gain": points of test accuracy over the control, the mean over nets (a net is a model on a data set) and its 95 %
interval. "in another net": where the gain of a net not tried lies (95 %), and "better": the chance that it is above 0
there; both are of one predictive distribution, from five nets on. "cost": a training step over the control's, the
median over settings: of nets that were timed in turn (a speeds.json beside the records), else of FLOPs ("F").
"sites": how many can follow each other on a map of --input-size. docs/advise.md says more.
"""

import argparse
import json
import math
import sys
import textwrap
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from poolbench.messages import counted

if TYPE_CHECKING:
    from poolbench.facts import Facts
    from poolbench.report.advice import Evidence, Told

_WIDTH, _NAME = 80, 16  # columns
UNKNOWN = "not known"


@dataclass(frozen=True)
class Choice:
    """A pool with what it says of itself, and the limits that it does not keep: flag -> how far, in words."""

    told: "Told"
    facts: "Facts | None"
    missed: dict[str, str]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    where = "folders of records, single ones, or archives (default: all published experiments)"
    parser.add_argument("--records", nargs="+", type=Path, metavar="PATH", help=where)
    parser.add_argument("--control", default="max", metavar="POOL", help="what gains and costs are told against (max)")
    limits = parser.add_argument_group("limits")
    cost = "a training step takes at most so many times the control's"
    limits.add_argument("--cost", type=float, metavar="RATIO", help=cost)
    limits.add_argument("--onnx", action="store_true", help="torch.onnx exports it, with the same values")
    limits.add_argument("--deterministic", action="store_true", help="it draws at random neither in training nor after")
    limits.add_argument("--no-parameters", action="store_true", help="it has no weights of its own")
    limits.add_argument("--sites", type=int, metavar="N", help="N of it can follow each other, each on what is left")
    size = "of the map that the first site gets, in pixels (32)"
    limits.add_argument("--input-size", type=int, default=32, metavar="SIDE", help=size)
    parser.add_argument("--json", action="store_true", help="for scripts: one object")


def main(arguments: argparse.Namespace) -> int:
    _check(arguments)
    from poolbench.claims.published import published_archives
    from poolbench.records.files import json_ready
    from poolbench.records.read import read_records, told
    from poolbench.records.speeds import find_speeds
    from poolbench.report.advice import evidence, surely_worse

    places = arguments.records or published_archives()
    records, problems = read_records(places)
    if not records:
        reasons = "".join(f"\n  {problem}" for problem in told(problems))
        raise ValueError(f"there is no record in {', '.join(map(str, places))}{reasons}")
    speeds, no_speeds = find_speeds([], (record.path.parent for record in records))
    for problem in told([*problems, *no_speeds]):
        print(f"poolbench: left out: {problem}", file=sys.stderr)
    found = evidence(records, speeds, arguments.control)
    choices = [_choice(one, arguments) for one in found.pools]
    kept = [one for one in choices if not one.missed]
    worse, asked = surely_worse([one.told for one in kept])
    if arguments.json:
        content = _content(found, choices, worse, asked, arguments)
        print(json.dumps(json_ready(content), indent=2, allow_nan=False))
    else:
        print("\n".join(_lines(found, choices, worse, asked)))
    return 0


def _check(arguments: argparse.Namespace) -> None:
    """Raises: ValueError naming the option, its value and what is allowed."""
    cost = arguments.cost
    if cost is not None and not (math.isfinite(cost) and cost > 0):
        raise ValueError(f"--cost must be a ratio above 0, as 1.1, got {cost:g}")
    for option in ("sites", "input_size"):
        value = getattr(arguments, option)
        if value is not None and value < 1:
            raise ValueError(f"--{option.replace('_', '-')} must be a whole number of at least 1, got {value}")


def _choice(told: "Told", arguments: argparse.Namespace) -> Choice:
    from poolbench.facts import facts, worst

    known = worst([facts(block, arguments.input_size) for block in told.made])
    missed = {}
    if arguments.cost is not None and not told.cost <= arguments.cost:
        missed[f"--cost {arguments.cost:g}"] = UNKNOWN if math.isnan(told.cost) else _cost(told)
    asked: list[tuple[str, bool, Callable[[Facts], bool], Callable[[Facts], str]]] = [
        ("--onnx", arguments.onnx, lambda one: one.onnx, lambda one: ""),
        ("--deterministic", arguments.deterministic, lambda one: one.deterministic, lambda one: ""),
        ("--no-parameters", arguments.no_parameters, lambda one: not one.parameters, lambda one: ""),
        (
            f"--sites {arguments.sites}",
            arguments.sites is not None,
            lambda one: one.sites >= arguments.sites,
            lambda one: str(one.sites),
        ),
    ]
    for flag, wanted, keeps, value in asked:
        if wanted and (known is None or not keeps(known)):
            missed[flag] = UNKNOWN if known is None else value(known)
    return Choice(told, known, missed)


def _lines(found: "Evidence", choices: Sequence[Choice], worse: frozenset[str], asked: frozenset[str]) -> list[str]:
    """The answer for people, at most 80 columns wide."""
    if not found.pools:
        text = f"No pool met {found.control} in two blocks of one setting: these records say nothing here."
        return textwrap.wrap(text, _WIDTH)
    where = f"{counted(found.settings, 'setting')}, {counted(found.nets, 'net')}, {counted(found.blocks, 'block')}"
    left = f"; {counted(found.left, 'setting')} left out, without two blocks of {found.control} and another pool"
    lines = [*textwrap.wrap(f"Against {found.control}: {where}{left if found.left else ''}.", _WIDTH), ""]
    kept = [one for one in choices if not one.missed]
    good = [one for one in kept if one.told.pool not in worse]
    if kept:
        lines += _heads(found.control)
        lines += [line for one in good for line in _row(one, found.control)]
    else:
        lines.append("No pool of these records keeps all limits.")
    if bad := [one for one in kept if one.told.pool in worse]:
        lines += ["", "Surely worse than the best of those above (95 %, by how nets differ):"]
        lines += [line for one in bad for line in _row(one, found.control)]
    if any(one.missed for one in choices):
        lines += ["", "Left out:"]
        for flag in dict.fromkeys(flag for one in choices for flag in one.missed):
            pools = [
                one.told.pool + (f" ({one.missed[flag]})" if one.missed[flag] else "")
                for one in choices
                if flag in one.missed
            ]
            lines += textwrap.wrap(f"{flag}: {', '.join(pools)}", _WIDTH, initial_indent="  ", subsequent_indent="    ")
    return [*lines, *_notes(found, kept, asked)]


def _heads(control: str) -> list[str]:
    over = f"over {control}" if len(control) <= 8 else ""
    return [
        f"{'':<{_NAME}}{'settings':>8}{'gain':>14}{'in another net':>16}",
        f"{'pool':<{_NAME}}{'/blocks':>8}{over:>14}{'':>16}{'better':>7}{'cost':>7}{'facts':>6}{'sites':>6}",
    ]


def _row(one: Choice, control: str) -> list[str]:
    """A pool; a name that is too long has lines of its own."""
    from poolbench.statistics.nets import LEAST_NETS

    told, known = one.told, one.facts
    gain, another = "-", "-"
    if told.pool != control:
        gain = f"{_points(told.gain, '+')}{'*' if told.nets < LEAST_NETS else ''}"
        if not math.isnan(told.low):
            gain = f"{_points(told.gain, '+')} ± {_points((told.high - told.low) / 2)}{gain[len(gain.rstrip('*')) :]}"
    if not math.isnan(told.net_low):
        another = f"{_points(told.net_low, '+')} to {_points(told.net_high, '+')}"
    text = f"{f'{told.settings}/{told.blocks}':>8}{gain:>14}{another:>16}{_chance(told.above):>7}{_cost(told):>7}"
    text += f"{_letters(known):>6}{'?' if known is None else known.sites:>6}"
    if len(told.pool) < _NAME:
        return [f"{told.pool:<{_NAME}}{text}"]
    return [*textwrap.wrap(told.pool, _WIDTH), f"{'':<{_NAME}}{text}"]


def _points(share: float, sign: str = "") -> str:
    return f"{100 * share:{sign}.{2 if abs(share) < 0.09995 else 1}f}"


def _chance(share: float) -> str:
    """It is a share of 10,000 draws: no chance is said to be none or all."""
    if math.isnan(share):
        return "-"
    return "<1 %" if share < 0.01 else ">99 %" if share > 0.99 else f"{100 * share:.0f} %"


def _cost(told: "Told") -> str:
    return "-" if math.isnan(told.cost) else f"{told.cost:.2f}{'F' if told.cost_by == 'flops' else ''}"


def _letters(known: "Facts | None") -> str:
    if known is None:
        return "?"
    exported = ("o" if known.open_sizes else "f") if known.onnx else "-"
    return f"{exported}{'-' if known.deterministic else 'r'}{'w' if known.parameters else '-'}"


def _notes(found: "Evidence", kept: Sequence[Choice], asked: frozenset[str]) -> list[str]:
    """What the table's marks mean, and what the records cannot answer."""
    from poolbench.pooling import POOLS
    from poolbench.statistics.nets import LEAST_NETS, LEAST_TO_PREDICT

    others = [one for one in kept if one.told.pool != found.control]
    notes = []
    if others:
        notes.append(
            "gain: points of test accuracy, ± 95 %. facts: o exports to ONNX (f: for one height and width), r draws at "
            "random, w has weights; ?: none of poolbench's own, so not known."
        )
    if any(one.told.cost_by == "flops" for one in kept):
        notes.append("cost F: of FLOPs, not of time: nobody timed these nets in turn (`poolbench bench nets`).")
    if any(math.isnan(one.told.cost) for one in kept):
        notes.append("cost -: the records tell neither times nor FLOPs.")
    if any(one.told.nets < LEAST_NETS for one in others):
        notes.append(
            f"*: the mean of the settings that were tried, in fewer than {LEAST_NETS} nets: ± is of these alone."
        )
    if few := [one for one in others if math.isnan(one.told.net_low)]:
        most = max(one.told.nets for one in few)
        which = "any pool" if len(few) == len(others) else f"{counted(len(few), 'pool')} (-)"
        notes.append(
            f"No interval for a net not tried can be given of {which}: that takes {LEAST_TO_PREDICT} nets, and here "
            f"{'is' if most == 1 else 'are'} at most {most}."
        )
    unasked = [one.told.pool for one in kept if one.told.pool not in asked]
    if len(kept) > 1 and unasked:
        which = "any pool" if len(unasked) == len(kept) else ", ".join(unasked)
        notes.append(f"Whether it is worse than the best cannot be told of {which}: that takes {LEAST_NETS} nets.")
    if absent := _absent(found, POOLS.names()):
        notes.append(f"Without a record to compare: {', '.join(absent)}.")
    return [line for note in notes for line in ["", *textwrap.wrap(note, _WIDTH)]]


def _absent(found: "Evidence", names: Sequence[str]) -> list[str]:
    """Pools of the table that no record compares with the control, under whatever options."""
    there = {one.pool.partition("(")[0] for one in found.pools}
    return [name for name in names if name not in there]


def _content(
    found: "Evidence",
    choices: Sequence[Choice],
    worse: frozenset[str],
    asked: frozenset[str],
    arguments: argparse.Namespace,
) -> dict[str, Any]:
    """The answer for scripts: shares of 1 where people are told points, null for what is not known."""
    from poolbench.pooling import POOLS

    pools = []
    for one in choices:
        known = None if one.facts is None else asdict(one.facts)
        own = {key: value for key, value in asdict(one.told).items() if key not in ("gains", "made")}
        told = one.told.pool
        judged = None if one.missed or told not in asked else told in worse
        pools.append({**own, "facts": known, "left_out_by": list(one.missed), "surely_worse": judged})
    limits = ("cost", "onnx", "deterministic", "no_parameters", "sites", "input_size")
    return {
        "control": found.control,
        "settings": found.settings,
        "nets": found.nets,
        "blocks": found.blocks,
        "settings_left_out": found.left,
        "limits": {name: getattr(arguments, name) for name in limits},
        "pools": pools,
        "without_records": _absent(found, POOLS.names()),
    }
