"""Disturb a sweep in every way we know, over and over, and see that it ends as if it had been left in peace.

    python scripts/torture.py                      # 120 kills, about 20 minutes on 2 cores
    python scripts/torture.py --kills 300 --seed 7
    python scripts/torture.py --short              # a few kills of a smaller sweep, as the tests do

A sweep is trained undisturbed, then again in folders where its processes are killed, stopped and passed over, the disk
is full or read-only, heartbeats seem to come from the past and the future, and files are damaged. When its cells are
done before there were enough kills, another round begins. Each round ends with one sweep that is left alone, and then
everything is checked. The exit code is 1 if anything is wrong; the folder is kept then. Root is needed for the disk.
"""

import argparse
import json
import random
import shlex
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from torture_acts import ACTS, begin, damage, jump, kill_group, kill_sweep, mount_disk, unmount_disk
from torture_checks import violations
from torture_sweeps import (
    Torment,
    end_sweep,
    epochs_of,
    members,
    note_results,
    owners,
    results,
    send,
    signs_of_life,
    start_sweep,
    wait_for,
)

SWEEP = [
    "data=shapes",
    "data.train_samples=4000",
    "data.test_samples=500",
    "data.size=16",
    "data.validation=0.1",
    "model=convnet_small,fast_cnn_tiny",
    "pool=max,strided_conv,stochastic,lip",
    "trainer.epochs=6",
    "trainer.sizes=[16,12]",
    "trainer.batch_size=50",
    "trainer.threads=1",
    "trainer.weight_averaging=0.9",
    "trainer.alternate_flip=true",
]
SHORT = ["data.train_samples=1500", "data.test_samples=100", "model=convnet_small", "pool=max,stochastic"]
SECONDS_WITHOUT_LIFE = 240.0


@dataclass
class Outcome:
    """What a torture came to.

    Args:
        counts: disturbances by kind.
        hit: kills by where they found a cell.
        resumed_from: kills by the finished epochs of the cell.
        given_up: last words of sweeps that ended by themselves without all cells done.
        wrong: each breach, as a line.
    """

    counts: Counter[str] = field(default_factory=Counter)
    hit: Counter[str] = field(default_factory=Counter)
    resumed_from: Counter[int] = field(default_factory=Counter)
    given_up: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)


def main(arguments: list[str] | None = None) -> int:
    """Returns: the exit code; 1 if anything is wrong."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, help="SIGKILLs before the last sweep (120, or 8 if short)")
    parser.add_argument("--seed", type=int, default=0, help="of the disturbances; when they hit is up to the machine")
    parser.add_argument("--workers", type=int, default=2, help="cells at once")
    parser.add_argument("--seeds", type=int, help="seeds of the sweep (2, or 1 if short)")
    parser.add_argument("--cells", default="", help="further options of the sweep, as 'pool=max,lip trainer.epochs=9'")
    parser.add_argument("--short", action="store_true", help="a smaller sweep")
    parser.add_argument("--folder", type=Path, help="where to work; a new temporary folder")
    chosen = parser.parse_args(arguments)
    kills = (8 if chosen.short else 120) if chosen.kills is None else chosen.kills
    seeds = chosen.seeds or (1 if chosen.short else 2)
    cells = _options(SWEEP, SHORT if chosen.short else [], shlex.split(chosen.cells), [f"seeds={seeds}"])
    folder = chosen.folder or Path(tempfile.mkdtemp(prefix="torture-"))
    began = time.monotonic()
    outcome = torture(folder, cells, kills, chosen.seed, chosen.workers)
    print_outcome(outcome, chosen.seed, time.monotonic() - began)
    if outcome.wrong:
        print(f"kept: {folder}")
    elif chosen.folder is None:
        shutil.rmtree(folder)
    return 1 if outcome.wrong else 0


def torture(
    folder: Path, cells: list[str], kills: int, seed: int, workers: int, seconds: float = float("inf")
) -> Outcome:
    """Rounds in ``folder`` until there were enough ``kills``, or so many ``seconds`` are over.

    Returns: what was done and what went wrong, the latter empty if all is well.
    """
    folder.mkdir(parents=True, exist_ok=True)
    end = time.monotonic() + seconds
    chance = random.Random(seed)
    outcome = Outcome()
    peace = _round(folder / "undisturbed", cells, workers, chance)
    _last_sweep(peace)
    if peace.wrong:
        outcome.wrong = peace.wrong
        return outcome
    trained = results(peace)
    epochs = max(epochs_of(path.parent) for path in trained)
    pause = 1.5 * _epoch_seconds(trained)
    number = 0
    while outcome.counts["kills"] < kills and time.monotonic() < end:
        number += 1
        torment = _round(folder / f"round-{number}", cells, workers, chance, epochs, pause)
        torment.counts = outcome.counts
        torment.hit, torment.resumed_from, torment.given_up = outcome.hit, outcome.resumed_from, outcome.given_up
        torment.mounted = mount_disk(torment.folder / "disk")
        try:
            _disturb(torment, len(trained), kills, end)
            _last_sweep(torment)
            note_results(torment)
            others = [torment.folder / "cache", torment.folder / "report"]
            torment.wrong += violations(torment.runs, peace.runs, torment.damaged, others) + _lost(torment)
            outcome.counts["cells ended right"] += len(trained)
            outcome.counts["set aside"] += len(list(torment.runs.glob("*.damaged-*")))
            print(f"round {number}: {outcome.counts['kills']} kills, {len(torment.wrong)} breaches", flush=True)
        finally:
            outcome.wrong += torment.wrong
            for sweep in torment.sweeps:
                for each in members(sweep.pid):
                    send(each.pid, signal.SIGKILL)
            if torment.mounted:
                unmount_disk(torment.folder / "disk", keep=bool(torment.wrong))
    outcome.counts["rounds"] = number
    outcome.counts["rounds on a small disk"] = number if torment.mounted else 0
    return outcome


def print_outcome(outcome: Outcome, seed: int, seconds: float) -> None:
    """The figures, then every breach."""
    print(f"seed {seed}, {seconds / 60:.1f} minutes")
    for title, counter in (
        ("what was done", outcome.counts),
        ("where kills found a cell", outcome.hit),
        ("finished epochs of a cell that was killed", outcome.resumed_from),
        ("last words of sweeps that gave up and were started again", outcome.given_up),
    ):
        if +counter:
            print(f"\n{title}:")
        for what in sorted(+counter, key=str):
            print(f"  {counter[what]:5}  {what}")
    if not outcome.counts["rounds on a small disk"]:
        print("\nskipped, for want of root: full and read-only disks")
    print(f"\n{len(outcome.wrong)} breaches")
    for line in outcome.wrong:
        print(f"  {line}")


def _round(
    folder: Path, cells: list[str], workers: int, chance: random.Random, epochs: int = 0, pause: float = 0.0
) -> Torment:
    (folder / "disk").mkdir(parents=True)
    return Torment(folder, cells, epochs, workers, pause, chance)


def _disturb(torment: Torment, cells: int, kills: int, end: float) -> None:
    """Until all cells are done or there were enough kills: start sweeps, wait for a moment, do something to them."""
    acts, weights = list(ACTS), list(ACTS.values())
    life, seen = time.monotonic(), None
    while torment.counts["kills"] < kills and time.monotonic() < end:
        for sweep in list(torment.sweeps):
            if sweep.poll() is not None:
                end_sweep(torment, sweep)
        note_results(torment)
        done = len(results(torment)) >= cells
        if done and not torment.sweeps:
            return
        if not torment.sweeps:
            if torment.random.random() < 0.4:
                damage(torment)
            if torment.random.random() < 0.2:
                jump(torment)
            begin(torment)
        if done:  # the tables and plots are being written
            wait_for(lambda: _ended(torment), torment.random.uniform(0, 3))
            torment.random.choice([kill_sweep, kill_group])(torment)
        else:
            _wait_for_a_moment(torment)
            torment.random.choices(acts, weights)[0](torment)
        if (now := dict(signs_of_life(torment))) != seen:
            life, seen = time.monotonic(), now
        elif time.monotonic() - life > SECONDS_WITHOUT_LIFE:
            torment.wrong.append(f"nothing moved for {SECONDS_WITHOUT_LIFE:.0f} s")
            return


def _ended(torment: Torment) -> bool:
    return any(sweep.poll() is not None for sweep in torment.sweeps)


def _wait_for_a_moment(torment: Torment) -> None:
    """Until a training has shown a sign of life and then a while, in most cases; else while all is starting, or right
    after a last epoch."""

    luck = torment.random.random()
    if luck < 0.1:
        wait_for(lambda: _ended(torment), torment.random.uniform(0, 6))
    elif luck < 0.3:
        wait_for(lambda: _ended(torment) or any(owner.epochs >= torment.epochs for owner in owners(torment)), 20)
        time.sleep(torment.random.uniform(0, 0.1))
    else:
        before = set(signs_of_life(torment))
        wait_for(lambda: _ended(torment) or set(signs_of_life(torment)) - before, 60)
        wait_for(lambda: _ended(torment), torment.random.uniform(0, torment.pause))


def _last_sweep(torment: Torment) -> None:
    """End what still runs, then one sweep in peace: all cells done, exit code 0."""
    for sweep in list(torment.sweeps):
        for each in members(sweep.pid):
            send(each.pid, signal.SIGKILL)
        end_sweep(torment, sweep)
    last = start_sweep(torment)
    end_sweep(torment, last)
    if last.returncode:
        torment.wrong.append(f"the last sweep ended with exit code {last.returncode}: {last.log}")


def _lost(torment: Torment) -> list[str]:
    """Cells that were done, were not damaged, and were trained again."""
    now = {name: torment.runs / name / "result.json" for name in torment.finished}
    again = [name for name, path in now.items() if not path.exists() or path.read_bytes() != torment.finished[name]]
    return [f"{name}: was done already and was trained again" for name in again]


def _epoch_seconds(trained: list[Path]) -> float:
    """Mean seconds of an epoch, by the results of an undisturbed sweep."""
    read = [json.loads(path.read_text(encoding="utf-8")) for path in trained]
    return sum(result["train_seconds"] for result in read) / sum(result["epochs"] for result in read)


def _options(*parts: list[str]) -> list[str]:
    """Options of a sweep, later ones in place of earlier ones of the same key."""
    chosen = {text.partition("=")[0]: text for part in parts for text in part}
    return list(chosen.values())


if __name__ == "__main__":
    sys.exit(main())
