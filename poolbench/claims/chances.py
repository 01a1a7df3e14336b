"""The chance that a claim is decided with the seeds that its sweep declares, told from records that there are."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from poolbench.claims.claim import NO_RECORD, Claim, amount
from poolbench.claims.rule2 import gains
from poolbench.claims.verdicts import judge
from poolbench.messages import counted
from poolbench.records.collect import collect
from poolbench.records.read import Record
from poolbench.records.tuning import reads_test, views
from poolbench.statistics.power import ENOUGH, MOST_BLOCKS, blocks_for, power

LEAST_CHANCE = 0.5  # of a headline claim, with which cells are trained without being told so


@dataclass(frozen=True)
class Chance:
    """How a claim stands before it is judged.

    Args:
        who: the claim's id and its stratum.
        sd: of one value after arm and block, in the metric's unit; NaN where no records tell it.
        decided: true gain -> the chance that the claim gets a word; needed: the seeds with which each chance is 80 %,
            None beyond 200.
    """

    claim: Claim
    who: str
    sd: float
    decided: dict[float, float]
    needed: int | None


def chances(claims: Sequence[Claim], records: Iterable[Record], seeds: int, looks: int = 1) -> list[Chance]:
    """The chance of each judgement at ``seeds`` complete blocks, at the gains at which it is hardest to decide.

    A claim of the kind ``better`` is asked at the smallest difference of interest and at 0, the others at 0.

    Args:
        records: finished cells of the same nets; what they gave tells the spread and nothing else.
        looks: how many share the error; the chance is that of the last one.
    """
    records = list(records)
    first = judge(claims, records)
    cells = collect(views(record for record in records if reads_test(record)))
    found = gains(first, cells) if len(cells) else []
    told = []
    for number, one in enumerate(first):
        claim, d = one.claim, one.claim.smallest_difference
        who = ", ".join(filter(None, (claim.id, one.stratum)))
        gain = found[number] if found and one.verdict != NO_RECORD else None
        sd = gain.error * math.sqrt(gain.blocks / 2) if gain and gain.blocks else math.nan
        if not sd > 0:
            told.append(Chance(claim, who, math.nan, {}, None))
            continue
        family = sum(other.claim.headline == claim.headline for other in first)
        asked = (d, 0.0) if claim.kind == "better" else (0.0,)
        design = {"arms": 2 + gain.pooled, "claims": family * looks}  # what more arms would add is little
        needed = [blocks_for(claim.kind, true, d, sd, **design) for true in asked]
        told.append(
            Chance(
                claim,
                who,
                sd,
                {true: power(claim.kind, true, d, sd, seeds, **design) for true in asked},
                None if None in needed else max(needed),
            )
        )
    return told


def underpowered(found: Iterable[Chance]) -> list[Chance]:
    """The headline claims whose chance to be decided is known and below a half."""
    return [one for one in found if one.claim.headline and one.decided and min(one.decided.values()) < LEAST_CHANCE]


def chance_lines(found: Sequence[Chance], seeds: int) -> list[str]:
    """For people, a line for each claim; of several gains the least chance, rounded down."""
    head = f"chance to decide with {counted(seeds, 'seed')}"
    if not any(one.decided for one in found):
        return [f"{head}: not known, no cells that are done tell the spread (poolbench power --sd)"]
    lines = [f"{head}, by the spread of cells that are done:"]
    for one in found:
        if not one.decided:
            lines.append(f"  {one.who}: not known, its arms have not met in cells that are done")
            continue
        least = min(one.decided.values())
        enough = f"more than {MOST_BLOCKS} seeds" if one.needed is None else counted(one.needed, "seed")
        more = "" if least >= ENOUGH else f"; {enough} for {100 * ENOUGH:.0f} %"
        lines.append(f"  {one.who}: {int(100 * least)} % (sd {amount(one.claim, float(f'{one.sd:.2g}'))}{more})")
    return lines
