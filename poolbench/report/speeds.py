"""What a pool costs in time, as a multiple of its table's baseline: by nets that were timed in turn, never by cells,
which train side by side."""

from collections.abc import Iterable, Mapping, Sequence
from statistics import median

import pandas as pd

from poolbench.messages import counted
from poolbench.records.printable import printable
from poolbench.records.read import Record
from poolbench.records.speeds import BUSY, Speeds, Timed, net_of, quartiles
from poolbench.report.summary import TIMES, Row, by, counting, plain


def with_times(
    summary: pd.DataFrame, cells: Mapping[str, list[Row]], records: Iterable[Record], speeds: Sequence[Speeds]
) -> tuple[pd.DataFrame, dict[str, list[str]]]:
    """Fill in the ratios of time of ``summary`` where ``speeds`` hold the nets of a pool and of its table's baseline.

    Args:
        cells: group -> its cells, as :func:`poolbench.report.summary.plain` gives them.
        records: of the cells, with their configs as they were trained.
        speeds: of several that hold both nets the first counts.
    Returns: the summary, and group -> sentences on where its ratios come from.
    """
    if not speeds:
        return summary, {}
    nets: dict[str, str | None] = {}
    resized = set()
    for record in records:
        nets[record.run_id] = net_of(record.config, record.numbers)
        resized |= {record.run_id} if record.config["trainer"].get("sizes") else set()
    ratios: dict[tuple[str, str], dict[str, float]] = {}
    notes: dict[str, list[str]] = {}
    for group, rows in by(plain(summary), "group").items():
        done = counting(cells[group])
        own = {pool: _common(nets[cell["run_id"]] for cell in members) for pool, members in by(done, "pool").items()}
        baseline = next((row["pool"] for row in rows if row["baseline"]), None)
        control = own.pop(baseline, None)
        sources = {pool: _first_with(speeds, net, control) for pool, net in own.items()}
        timed = {pool: source for pool, source in sources.items() if source is not None}
        if not timed:
            continue
        for pool, source in timed.items():
            ratios[group, pool] = _ratios(source.nets[own[pool]], source.nets[control])
        ratios[group, baseline] = dict.fromkeys(TIMES, 1.0)
        notes[group] = [_where(source, control) for source in speeds if source in timed.values()]
        if untimed := sorted(sources.keys() - timed.keys()):
            notes[group].append(f"Not among the nets that were timed: {', '.join(untimed)}.")
        if resized.intersection(cell["run_id"] for cell in done):
            notes[group].append("The times are of whole images; the cells trained at other sizes too.")
    places = list(zip(summary["group"], summary["pool"], strict=True))
    filled = {name: [ratios.get(place, {}).get(name, float("nan")) for place in places] for name in TIMES}
    return summary.assign(**filled), notes


def _common(nets: Iterable[str | None]) -> str | None:
    """The net that all of a pool's cells have; None where they have several, as one searched option gives."""
    different = set(nets)
    return different.pop() if len(different) == 1 else None


def _first_with(speeds: Sequence[Speeds], net: str | None, control: str | None) -> Speeds | None:
    return next((one for one in speeds if net in one.nets and control in one.nets), None)


def _ratios(own: Timed, control: Timed) -> dict[str, float]:
    """The columns of a pool: medians and quartiles of the ratios within a round, which what else the machine does
    moves little."""
    found: dict[str, float] = {}
    for kind, times, units in (("train", own.train, control.train), ("forward", own.forward, control.forward)):
        rounds = [time / unit for time, unit in zip(times, units, strict=True)]
        low, high = quartiles(rounds)
        name = f"{kind}_time_ratio"
        found |= {name: median(rounds), f"{name}_low": low, f"{name}_high": high}
    return found


def _where(source: Speeds, control: str) -> str:
    height, width = source.nets[control].size
    busy = f", with a load of {source.load:.1f} a core by others" if source.load and source.load > BUSY else ""
    return (
        f"Times: {counted(source.rounds, 'round')} in turn on {source.where}, passes of "
        f"{counted(source.batch, 'image')} of {height}x{width} pixels{busy} ({printable(source.path.name)})."
    )
