"""What the report of an experiment adds to that of a sweep: its claims, judged, as tables, text and one figure."""

import json
import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd

from poolbench.claims.claim import Claim, ClaimError, Judgement
from poolbench.claims.figure import claim_figure
from poolbench.claims.looks import Declared
from poolbench.claims.rule2 import judge_again, with_second
from poolbench.claims.verdicts import judge
from poolbench.claims.words import claim_rows, claims_markdown, claims_text, fill, history
from poolbench.messages import counted
from poolbench.records.collect import collect, write_csv
from poolbench.records.files import write_text
from poolbench.records.read import Record
from poolbench.records.tuning import reads_test, views
from poolbench.report import USUAL_FORMATS, Page, Report, make_report, write_made
from poolbench.report.drawings import Drawing
from poolbench.report.images import two_arms
from poolbench.report.notes import spans
from poolbench.statistics.estimates import Estimate

__all__ = ["Experiment", "claims_text", "fill", "history", "make_experiment", "write_experiment", "write_judged"]

FIGURE = "claims"


@dataclass(frozen=True)
class Experiment:
    """What came of an experiment.

    Args:
        name: its folder's; report: as of any sweep; judgements: of the claims, in their order.
        markdown: the claims, as they stand in ``claims.md`` and between the marks of a README.
        drawing: the figure, not drawn yet.
        files: everything that was written; drawn: those of them that are figures and were drawn anew.
    """

    name: str
    report: Report
    judgements: list[Judgement]
    markdown: str
    drawing: Drawing
    files: list[Path] = field(default_factory=list)
    drawn: list[Path] = field(default_factory=list)

    @property
    def text(self) -> str:
        """The claims for a terminal, plain and at most 100 columns wide."""
        return claims_text(self.judgements)


def make_experiment(
    name: str,
    records: Iterable[Record],
    claims: Sequence[Claim],
    speeds: Sequence[str | Path] = (),
    title: str | None = None,
    declared: Declared | None = None,
) -> Experiment:
    """Judge ``claims`` on ``records``; nothing is written or drawn.

    Args:
        name: of the experiment, its folder's.
        records: of its cells, in any state.
        speeds: files with times of nets, as :func:`poolbench.report.write_report` takes them.
        title: of the figure; the name without.
        declared: seeds and looks, where that is known: of other seeds the notes tell.
    Raises: ClaimError where a claim does not fit the records; ValueError when there is no record at all.
    """
    records = list(records)
    judgements, drawing = judge_and_draw(name, records, claims, title, declared)
    report = make_report(records, speeds=speeds)
    return Experiment(name, report, judgements, claims_markdown(judgements), drawing)


def judge_and_draw(
    name: str,
    records: Sequence[Record],
    claims: Sequence[Claim],
    title: str | None = None,
    declared: Declared | None = None,
) -> tuple[list[Judgement], Drawing]:
    """The judgements of ``claims`` on ``records``, in their order, and the figure of them.

    Args: as those of :func:`make_experiment`.
    Raises: ClaimError where a claim does not fit the records.
    """
    try:
        first = _with_added(judge(claims, records), declared.seeds if declared else None)
        by_second = judge(_seconds(claims, records), records)
    except ClaimError as error:
        raise ClaimError(f"{name}/claim.yaml: {error}") from error
    cells = collect(views(record for record in records if reads_test(record)))
    looks = declared.looks if declared else ()
    outcomes = {record.run_id: record.outcomes for record in records if record.outcomes}
    first = [_with_images(one, outcomes) for one in first]
    judgements = with_second(judge_again(first, cells, looks), judge_again(by_second, cells, looks))
    shown, draw = _shown(judgements, cells), partial(claim_figure, judgements, cells)
    return judgements, Drawing(name=FIGURE, title=title or name, shown=shown, draw=draw)


def write_experiment(
    name: str,
    records: Iterable[Record],
    claims: Sequence[Claim],
    output: str | Path,
    speeds: Sequence[str | Path] = (),
    archive: bool = False,
    title: str | None = None,
    declared: Declared | None = None,
) -> Experiment:
    """Judge ``claims`` on ``records`` and write all about them: :func:`make_experiment`, then :func:`write_judged`.

    Raises: ClaimError, before anything is written, where a claim does not fit the records; OSError when ``output``
        cannot be written to; ValueError when there is no record at all.
    """
    return write_judged(make_experiment(name, records, claims, speeds, title, declared), output, archive)


def write_judged(
    experiment: Experiment, output: str | Path, archive: bool = False, formats: Collection[str] = USUAL_FORMATS
) -> Experiment:
    """Write all about ``experiment`` into the folder ``output``.

    Beside what :func:`poolbench.report.write_report` writes: ``claims.csv``, a row for each judgement with every number
    that it was made of, ``claims.md``, and the figure ``claims`` as PNG and SVG.

    Args:
        archive: also write the records; formats: of the report.
    Returns: the experiment with its files.
    Raises: OSError when ``output`` cannot be written to.
    """
    output = Path(output)
    page = Page(experiment.drawing.title.partition("\n")[0], claim_rows(experiment.name, experiment.judgements))
    report = write_made(experiment.report, output, archive, formats=formats, drawings=[experiment.drawing], page=page)
    files = [output / "claims.csv", output / "claims.md"]
    write_csv(claims_table(experiment.judgements), files[0])
    write_text(files[1], f"# Claims\n\n{experiment.markdown}")
    return replace(experiment, report=report, files=[*report.files, *files], drawn=report.drawn)


def _seconds(claims: Iterable[Claim], records: Sequence[Record]) -> list[Claim]:
    """The claims about their second metrics, of those that some record has; all of them are one family."""
    there = {number for record in records for number in record.result or {}}
    return [replace(claim.by_second, headline=False) for claim in claims if claim.second in there]


def _with_added(judgements: Sequence[Judgement], declared: frozenset[int] | None) -> list[Judgement]:
    """``judgements``, with a note where they have seeds that the experiment does not declare."""
    if declared is None:
        return list(judgements)
    told = []
    for one in judgements:
        more = set(one.gains) - declared
        note = (
            f"Seed{'s' if len(more) > 1 else ''} {spans(more)} {'are' if len(more) > 1 else 'is'} not declared by the "
            "experiment: if seeds were added because no verdict had come, one is wrong more often than 5 %."
        )
        told.append(replace(one, notes=(*one.notes, note)) if more else one)
    return told


def _with_images(one: Judgement, outcomes: Mapping[str, Any]) -> Judgement:
    """``one`` with a note on the test images that its arms part on, where it is about them and the records tell."""
    if one.claim.metric_control != "test_accuracy" or one.claim.metric_treatment != "test_accuracy":
        return one
    own = [
        {seed: outcomes[run] for seed, run in runs.items() if run in outcomes}
        for runs in (one.treatment_runs, one.control_runs)
    ]
    two = two_arms(*own)
    if two is None:
        return one
    note = (
        f"Of {two.images:,} test images the treatment alone is right on {two.alone:,.0f} and the control alone on "
        f"{two.control_alone:,.0f} (mean of {counted(two.seeds, 'seed')}); on other images of this kind the same nets "
        f"would differ by up to {100 * two.margin:.2f} points more or less (95 %)."
    )
    return replace(one, notes=(*one.notes, note))


def claims_table(judgements: Iterable[Judgement]) -> pd.DataFrame:
    """A row for each judgement: the claim, the paper's numbers, ours by seed, intervals, and how it was decided, and
    what rule 1 said.

    What holds several values is JSON.
    """
    rows = []
    for judgement in judgements:
        claim = judgement.claim
        rows.append(
            {
                "claim": claim.id,
                "stratum": judgement.stratum,
                "says": claim.says,
                "headline": claim.headline,
                "kind": claim.kind,
                "metric_control": claim.metric_control,
                "metric_treatment": claim.metric_treatment,
                "direction": claim.direction,
                "smallest_difference": claim.smallest_difference,
                **{name: _json(getattr(claim, name)) for name in ("control", "treatment", "where")},
                **{f"paper_{key}": value for key, value in asdict(claim.paper).items()},
                "net": judgement.net,
                "pairs": judgement.gain.n,
                **_bounds("control", judgement.control),
                **_bounds("treatment", judgement.treatment),
                **_bounds("gain", judgement.gain),
                "level": judgement.level,
                "judged_low": judgement.judged.low,
                "judged_high": judgement.judged.high,
                "p": judgement.p,
                "verdict": judgement.verdict,
                "why": judgement.why,
                "seeds_needed": judgement.seeds_needed,
                **{name: _json(getattr(judgement, name)) for name in ("control_values", "treatment_values", "gains")},
                **{name: _json(getattr(judgement, name)) for name in ("control_runs", "treatment_runs")},
                **_over(judgement),
                **_second(judgement),
                "notes": " ".join(judgement.notes),
                **_by_rule_1(judgement.first or judgement),
            }
        )
    return pd.DataFrame(rows).astype({"seeds_needed": "Int64", "nets": "Int64"})


def _over(judgement: Judgement) -> dict[str, Any]:
    """Of a row over nets how many there are, their spread, and the interval for another one."""
    over = judgement.over
    names = ("nets", "between", "low", "high")
    return {f"net_{name}" if name != "nets" else name: getattr(over, name) if over else None for name in names}


def _second(judgement: Judgement) -> dict[str, Any]:
    claim, second = judgement.claim, judgement.second
    empty = Estimate(0, math.nan, math.nan, math.nan)
    return {
        "second_metric": claim.second or None,
        "second_smallest_difference": claim.second_smallest,
        **_bounds("second_gain", second.gain if second else empty),
        "second_p": second.p if second else math.nan,
        "second_verdict": second.verdict if second else None,
        "second_why": second.why if second else None,
    }


def _by_rule_1(first: Judgement) -> dict[str, Any]:
    return {
        "rule1_verdict": first.verdict,
        "rule1_why": first.why,
        **_bounds("rule1_gain", first.gain),
        "rule1_level": first.level,
        "rule1_judged_low": first.judged.low,
        "rule1_judged_high": first.judged.high,
        "rule1_p": first.p,
    }


def _bounds(name: str, estimate: Estimate) -> dict[str, float]:
    return {f"{name}_mean": estimate.mean, f"{name}_low": estimate.low, f"{name}_high": estimate.high}


def _json(value: object) -> str:
    return json.dumps(value, sort_keys=True, ensure_ascii=True, default=str)


def _shown(judgements: Sequence[Judgement], cells: pd.DataFrame) -> bytes:
    """All that the figure can show: the judgements, and what the test set was read for of each cell."""
    columns = ["run_id", *(column for column in cells.columns if str(column).startswith("test_accuracy"))]
    return repr(list(judgements)).encode() + cells[columns].to_csv(index=False, lineterminator="\n").encode()
