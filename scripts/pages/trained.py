"""What came of training each head and model for two epochs: a section of their pages, from the committed records."""

from functools import cache
from typing import Any

from pages.docstrings import ROOT
from pages.markdown import row, wrapped
from poolbench.records.read import Record, read_records

ARCHIVE = ROOT / "results/2026_two_epochs/records.jsonl"
SHARED = "convnet_small"  # the model in which the heads were trained


def section(of: str) -> list[str]:
    """The section for ``of``, ``heads`` or ``models``; nothing without records."""
    chosen = [record for record in records() if (record.config["names"]["model"] == SHARED) == (of == "heads")]
    if not chosen:
        return []
    what = "head in `convnet_small`" if of == "heads" else "model with the pools and the head named"
    lines = [
        "## Two epochs of CIFAR-10",
        "",
        *wrapped(
            f"Each {what}, trained once (`poolbench sweep sweep=2026_two_epochs`): that it trains, and no comparison, "
            "for it is one seed, and the recipes are not tuned. "
            "[The experiment](../experiments/2026_two_epochs/README.md) says what was set."
        ),
        f"| {'head' if of == 'heads' else 'model'} | pool, head | optimiser | test accuracy | training FLOPs |",
        "|---|---|---|---:|---:|",
    ]
    return [*lines, *(_row(of, record) for record in chosen)]


@cache
def records() -> tuple[Record, ...]:
    """The finished cells, in the order of the archive."""
    if not ARCHIVE.exists():
        return ()
    found, problems = read_records(ARCHIVE)
    assert not problems, problems
    return tuple(record for record in found if record.result is not None)


def _row(of: str, record: Record) -> str:
    names, result = record.config["names"], record.result
    assert result is not None
    cells: list[Any] = [
        f"`{names[of.removesuffix('s')]}`",
        f"`{names['pool']}`, `{names['head']}`",
        names["optimizer"],
        f"{100 * result['test_accuracy']:.1f} %",
        f"{result['train_flops']:.2g}",
    ]
    return row(cells)
