"""The answer so far, short: what was claimed, the gain here and the verdict, a row for each headline claim."""

import itertools
import textwrap
from collections import Counter
from collections.abc import Iterable, Sequence

from poolbench.claims.claim import Judgement, is_share
from poolbench.claims.words import interval_text
from poolbench.messages import counted
from poolbench.records.printable import printable
from poolbench.report.tables import DASH, plain_markdown
from poolbench.statistics.words import CONTRADICTS, SUPPORTS, TOO_SMALL

MOST_LETTERS = 60  # of a cell: three of them fit beside each other
_NO_MARKS = str.maketrans("[]|", "()/")  # which end the name of a link, or a cell
_SHORT = {TOO_SMALL: "too small to matter"}
_SHORTEST = {TOO_SMALL: "too small", SUPPORTS: "support", CONTRADICTS: "contradict"}


def answer(experiments: Iterable[tuple[str, str, Sequence[Judgement], str]]) -> str:
    """The headline claims of experiments as a short Markdown table, and below it where the links of its cells lead.

    No cell is longer than ``MOST_LETTERS``: what is too long is cut at a word.

    Args:
        experiments: as for :func:`poolbench.claims.words.history`.
    """
    lines, links = ["| idea: claim | gain here | verdict |", "|---|---|---|"], []
    for name, idea, judgements, so_far in experiments:
        headlines = [judgement for judgement in judgements if judgement.claim.headline]
        for _, group in itertools.groupby(headlines, key=lambda judgement: judgement.claim.id):
            found = list(group)
            found = [one for one in found if one.over] or found  # that row is the claim's in its family
            claim = found[0].claim
            words = claim.short or claim.id.replace("_", " ")
            label = _cut(idea, MOST_LETTERS - len("[]: ") - min(len(words), 20))
            link = f"[{label}]: experiments/{name}"
            links += [link] if link not in links else []
            what = _cut(words, MOST_LETTERS - len(label) - len("[]: "))
            interim = ", so far" if so_far and any(one.gain.n for one in found) else ""
            lines.append(f"| [{label}]: {what} | {_gain(found)}{interim} | {_verdict(found)} |")
    return "\n".join([*lines, "", *links]) + "\n"


def _gain(judgements: Sequence[Judgement]) -> str:
    """``+0.55 points [-0.27, +1.36]``; of several strata ``-0.03 to +0.55 points, 2 settings``, the least and most."""
    texts = [_interval(one) for one in sorted(judgements, key=lambda one: one.gain.mean) if one.gain.n]
    if not texts:
        return DASH
    if len(texts) == 1:
        return texts[0]
    least, most = (text.partition(" [")[0] for text in (texts[0], texts[-1]))
    return f"{least.removesuffix(' points')} to {most}, {counted(len(texts), 'setting')}"


def _interval(one: Judgement) -> str:
    claim = one.claim
    share = is_share(claim.metric_control) and is_share(claim.metric_treatment)
    return interval_text(one.gain, share, sign=True, apart=(claim.smallest_difference, -claim.smallest_difference))


def _verdict(judgements: Sequence[Judgement]) -> str:
    """One word where all strata have the same, else how many have each: ``3 support, 1 cannot tell``."""
    counts = Counter(one.verdict for one in judgements)
    if len(counts) == 1:
        (verdict,) = counts
        return _SHORT.get(verdict, verdict)
    return ", ".join(f"{count} {_SHORTEST.get(verdict, verdict)}" for verdict, count in counts.most_common())


def _cut(text: str, most: int) -> str:
    """``text`` as a part of a cell, whole words of it, with a sign where some are left out."""
    return plain_markdown(textwrap.shorten(printable(text).translate(_NO_MARKS), most, placeholder=" …"))
