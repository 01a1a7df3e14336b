"""What the page of a report shows, as plain data: rows that the browser sorts, filters and draws.

Fractions and differences are rounded to 0.00001, so that the last digits of one machine do not make another page.
"""

import base64
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from poolbench.config_files import pictures_dir
from poolbench.dotted import flatten
from poolbench.records.compared import POOL, factor_words
from poolbench.records.probes import TRANSFORMS, is_of_probe
from poolbench.records.read import ARCHIVE, Record
from poolbench.report.colours import styles
from poolbench.report.summary import Row, blocks, by, counting, floors, plain
from poolbench.statistics.blocks import fit_or_none
from poolbench.statistics.comparisons import LEAST_PAIRS
from poolbench.statistics.pairs import VERDICTS, all_pairs

if TYPE_CHECKING:
    from poolbench.report import Report

_DIGITS = 5
_MOST_EPOCHS = 60  # points of a learning curve
_BOUNDED = ("test_accuracy", "test_loss", "train_test_gap")
_TIMES = ("train_time_ratio", "forward_time_ratio")
_COSTS = ("parameters", "forward_flops", "pool_flops", "peak_memory_bytes")
_PROBED = ("consistency", "circular_consistency", "calibration_error", "test_accuracy_corrupted")
_ABOUT = ("model", "head", "data", "epochs", "optimizer", "schedule", "batch_size", "precision")
_NOT_CONFIG = ("run_id", "seed", "runs_dir", "report_dir", "names", "data_fingerprint", "view")
# Marks of matplotlib, in the words of Vega; what Vega lacks is drawn in a square from -1 to 1.
_SHAPES = {
    "o": "circle",
    "s": "square",
    "^": "triangle-up",
    "D": "diamond",
    "v": "triangle-down",
    "X": "cross",
    "<": "triangle-left",
    ">": "triangle-right",
    "p": "M0,-1L0.95,-0.31L0.59,0.81L-0.59,0.81L-0.95,-0.31Z",
    "h": "M0,-1L0.87,-0.5L0.87,0.5L0,1L-0.87,0.5L-0.87,-0.5Z",
    "*": "M0,-1L0.24,-0.32L0.95,-0.31L0.38,0.12L0.59,0.81L0,0.4L-0.59,0.81L-0.38,0.12L-0.95,-0.31L-0.24,-0.32Z",
    "d": "M0,-1L0.5,0L0,1L-0.5,0Z",
}


def page_content(report: "Report", claims: Sequence[Mapping[str, Any]] = ()) -> dict[str, Any]:
    """All that the page shows of ``report``.

    Args:
        claims: a row for each judgement, as :func:`poolbench.claims.words.claim_rows` gives them.
    Returns: ``settings``, a dict for each group; ``rows``, one for each arm of a setting, with ``s``, the place of
        its setting; ``pairs``: for each setting the differences of all its rows; ``cells``, ``configs`` and
        ``environments`` behind them; ``curves`` and ``transforms`` by setting; ``pools``; ``claims``; ``start``: the
        place of the setting that is shown first.
    """
    records = {record.run_id: record for record in report.records}
    members = by(plain(report.cells), "group")
    said = _probed(report.more.get("probes"))
    content: dict[str, Any] = {"factor": factor_words(report.factor), "settings": [], "rows": [], "pairs": []}
    content["cells"] = []
    environments: dict[str, int] = {}
    for place, (own, (_, notes)) in enumerate(zip(by_group(report), report.groups, strict=True)):
        group = own[0]["group"]
        cells = by(members[group], "pool")
        configs = {row["pool"]: _config(cells[row["pool"]], records) for row in own}
        shared = _common(configs.values())
        about = {name: own[0][name] for name in _ABOUT}
        content["settings"].append(
            {"id": group, "text": own[0]["setting"], **about, "tuned": str(own[0]["setting"]).endswith(", tuned")}
            | {"notes": list(notes), "config": shared, "train_flops": _largest(members[group], "train_flops")}
            | {"baseline": next((row["pool"] for row in own if row["baseline"]), None)}
        )
        for row in own:
            found = _row(row, cells[row["pool"]], said.get((group, row["pool"]), {})) | {"s": place}
            found["config"] = {name: value for name, value in configs[row["pool"]].items() if name not in shared}
            found["cells"] = []
            for cell in sorted(cells[row["pool"]], key=lambda cell: (cell["seed"], cell["run_id"])):
                found["cells"].append(len(content["cells"]))
                content["cells"].append(_cell(cell, records.get(cell["run_id"]), environments))
            content["rows"].append(found)
        content["pairs"].append(_pairs(members[group], [row["pool"] for row in own]))
    content["environments"] = [json.loads(text) for text in environments]
    content["curves"] = _curves(report.curves, content["settings"])
    content["transforms"] = _transforms(report.more.get("probes"), content["settings"])
    content["pools"] = _pools((row["arm"] for row in content["rows"]), report.factor == POOL)
    content["claims"] = [_plain(dict(claim)) for claim in claims]
    content["start"] = _start(content)
    return content


def by_group(report: "Report") -> list[list[Row]]:
    """The rows of each group, as ``report.groups`` has them in turn."""
    rows = by(plain(report.summary), "group")
    return [rows[summary["group"].iloc[0]] for summary, _ in report.groups]


def rounded(value: Any) -> Any:
    """``value`` as JSON has it: to five decimals, None for what is no number."""
    if value is None or value is pd.NA or (isinstance(value, float) and not math.isfinite(value)):
        return None
    if isinstance(value, float | np.floating):
        return round(float(value), _DIGITS) + 0.0
    return int(value) if isinstance(value, np.integer) else value


def _plain(row: dict[str, Any]) -> dict[str, Any]:
    return {name: rounded(value) for name, value in row.items()}


def _row(row: Row, cells: list[Row], probed: Mapping[str, Any]) -> dict[str, Any]:
    found = {"arm": row["pool"], "pool": row["pool"].partition("(")[0], "base": bool(row["baseline"])}
    found |= {name: row[name] for name in ("seeds", "unfinished", "failed", "blocks")}
    for name in (*_BOUNDED, *_TIMES):
        found[name] = [row[f"{name}{end}"] for end in ("", "_low", "_high")]
        found[name] = [rounded(value) for value in found[name]]
    found |= {name: rounded(row[name]) for name in _COSTS}
    found["best"] = row["among_best"]
    found["dots"] = [rounded(cell["test_accuracy"]) for cell in counting(cells)]
    return _plain(found) | {name: probed.get(name) for name in _PROBED}


def _cell(cell: Row, record: Record | None, environments: dict[str, int]) -> dict[str, Any]:
    """A cell's own numbers, and the place of its environment, which is added where it is new."""
    found = {"run": cell["run_id"], "seed": cell["seed"], "state": cell["state"], "commit": cell["commit"]}
    found |= {name: rounded(cell[name]) for name in ("test_accuracy", "train_accuracy", "cell_seconds")}
    found |= {"finished": cell["finished"], "error": cell["error"]}
    if record is not None:
        about = {key: value for key, value in record.environment.items() if key not in ("created", "commit", "dirty")}
        text = json.dumps(about, sort_keys=True, default=str)
        found["e"] = environments.setdefault(text, len(environments))
        found["again"] = f"poolbench rerun {_place(record)}"
    return {name: value for name, value in found.items() if value is not None}


def _place(record: Record) -> str:
    path = record.path
    if path.is_dir() or path.name == record.run_id:
        return path.as_posix()
    folder = path.parent if path.name == ARCHIVE else path
    return f"{folder.as_posix()}:{record.run_id}"


def _config(cells: Sequence[Row], records: Mapping[str, Record]) -> dict[str, Any]:
    """What the cells of a row were told, but for the seed and for where they lie."""
    found = next((records[cell["run_id"]].config for cell in cells if cell["run_id"] in records), {})
    kept = {key: value for key, value in found.items() if key not in _NOT_CONFIG}
    return {name: value for name, value in flatten(kept).items() if name not in ("data.root", "data.mirrors")}


def _common(configs: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    configs = list(configs)
    absent = object()
    return {
        name: value for name, value in configs[0].items() if all(other.get(name, absent) == value for other in configs)
    }


def _largest(cells: Sequence[Row], name: str) -> float:
    return max((cell[name] for cell in cells if cell[name] is not None), default=0.0)


def _pairs(members: list[Row], arms: Sequence[str]) -> dict[str, Any] | None:
    """Differences of ``arms``: row minus column in units of 0.00001, half of the 95 % interval, and the verdict, ``-``,
    ``h`` or ``l``; None where no block has two of them."""
    done = by(counting(members), "pool")
    fitted = fit_or_none({arm: blocks(done[arm], "test_accuracy") for arm in arms if arm in done})
    if fitted is None:
        return None
    found = all_pairs(fitted, floors(done))
    letters = {name: letter for name, letter in zip(VERDICTS, "-hl", strict=True)}
    return {
        "arms": list(found.arms),
        "mean": _units(found.mean),
        "half": _units(found.half),
        "blocks": found.blocks.tolist(),
        "verdict": ["".join(letters[VERDICTS[place]] for place in line) for line in found.verdict],
        "least": LEAST_PAIRS,
    }


def _units(numbers: np.ndarray) -> list[list[int | None]]:
    scaled = numbers * 10**_DIGITS
    return [[None if math.isnan(value) else round(value) for value in line] for line in scaled.tolist()]


def _probed(probes: pd.DataFrame | None) -> dict[tuple[str, str], dict[str, Any]]:
    """(group, pool) -> the probes' numbers that have a column."""
    found: dict[tuple[str, str], dict[str, Any]] = {}
    if probes is not None and len(probes):
        for row in plain(probes[probes["number"].isin(_PROBED)]):
            found.setdefault((row["group"], row["pool"]), {})[row["number"]] = rounded(row["mean"])
    return found


def _curves(curves: pd.DataFrame, settings: Sequence[Mapping[str, Any]]) -> dict[int, dict[str, Any]]:
    """Place of a setting -> arm -> epochs and means over seeds of what was measured at their end."""
    places = {setting["id"]: place for place, setting in enumerate(settings)}
    found: dict[int, dict[str, Any]] = {}
    means = curves.groupby(["group", "pool", "epoch"], sort=True)[["train_accuracy", "validation_accuracy"]].mean()
    for (group, arm), over in means.groupby(level=["group", "pool"], sort=True):
        over = over.droplevel(["group", "pool"])
        over = over.iloc[_spread(len(over), _MOST_EPOCHS)]
        kinds = {kind: [rounded(value) for value in over[kind]] for kind in over if over[kind].notna().any()}
        if kinds and group in places:
            epochs = [rounded(float(epoch)) for epoch in over.index]
            found.setdefault(places[group], {})[arm] = {"epoch": epochs, **kinds}
    return found


def _spread(many: int, most: int) -> list[int]:
    """Places of at most ``most`` of ``many``, the first and the last among them."""
    if many <= most:
        return list(range(many))
    return sorted({round(place * (many - 1) / (most - 1)) for place in range(most)})


def _transforms(probes: pd.DataFrame | None, settings: Sequence[Mapping[str, Any]]) -> dict[int, dict[str, Any]]:
    """Place of a setting -> transform -> arm -> amounts, accuracies, and how far features moved where that is known."""
    found: dict[int, dict[str, Any]] = {}
    if probes is None or probes.empty:
        return found
    places = {setting["id"]: place for place, setting in enumerate(settings)}
    for row in plain(probes[probes["number"].map(is_of_probe)]):
        for word in TRANSFORMS.values():
            for kind, start in (("accuracy", f"test_accuracy_{word}_"), ("moved", f"distance_{word}_")):
                amount = _amount(row["number"].removeprefix(start)) if row["number"].startswith(start) else None
                if amount is not None:
                    own = found.setdefault(places[row["group"]], {}).setdefault(word, {})
                    own.setdefault(row["pool"], {}).setdefault(kind, []).append([amount, rounded(row["mean"])])
    for words in found.values():
        for arms in words.values():
            for kinds in arms.values():
                for points in kinds.values():
                    points.sort()
    return found


def _amount(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


def _pools(arms: Iterable[str], are_pools: bool) -> dict[str, dict[str, Any]]:
    """Arm -> colour, shape and dashes; of pools of ours also the family, one line, the source and the picture."""
    arms = sorted(set(arms))
    folder = pictures_dir()
    file = folder / "pools.json"
    told = json.loads(file.read_text(encoding="utf-8")) if are_pools and file.is_file() else {}
    found = {}
    for arm, style in styles(arms).items():
        name = arm.partition("(")[0]
        one: dict[str, Any] = {"colour": style.colour, "shape": _SHAPES[style.marker], "name": name}
        one["dash"] = [] if isinstance(style.dash, str) else list(style.dash[1])
        one |= told.get(name, {"family": "Others", "line": "", "source": ""})
        found[arm] = one
    return found


def pictures(pools: Mapping[str, Mapping[str, Any]]) -> dict[str, str]:
    """Name -> its picture as a ``data:`` address, of the pools of ours."""
    found = {}
    for one in pools.values():
        path = pictures_dir() / f"{one['name']}.png"
        if one["source"] and path.is_file():
            found[one["name"]] = f"data:image/png;base64,{base64.b64encode(path.read_bytes()).decode()}"
    return dict(sorted(found.items()))


def _start(content: Mapping[str, Any]) -> int:
    """The setting with the most rows that have a verdict's blocks, and of equal ones the one that was trained most."""
    seen = by([row for row in content["rows"] if (row["blocks"] or 0) >= LEAST_PAIRS], "s")
    order = [(len(seen.get(place, [])), one["train_flops"]) for place, one in enumerate(content["settings"])]
    return max(range(len(order)), key=lambda place: order[place], default=0)
