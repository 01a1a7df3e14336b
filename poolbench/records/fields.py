"""The numbers of a result, each declared once: its name, its kind, and where it is shown. Needs neither torch nor
pandas."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Field:
    """A number, a truth value or a text of ``result.json``; in tables its column has the same name.

    Args:
        name: as the result has it. Of a unit other than 1 it ends in it: ``_seconds``, ``_bytes``, ``_flops``.
        kind: ``share``: a fraction from 0 to 1; ``loss``: any number, one that diverged included; ``number``, finite;
            ``count``: a whole number; ``operations``: a number that is whole unless it is huge; ``truth``; ``text``.
        measured: every training measures it anew, the same one included.
        cost: where it stands among the costs of a summary, from 1; 0 for what is none.
        title, form, per: over its column of costs for people, how a value is written there, and in units of what; no
            column without a title.
        column: whether it is a column of its own in the tidy table of cells.
    """

    name: str
    kind: Literal["share", "loss", "number", "count", "operations", "truth", "text"]
    measured: bool = False
    cost: int = 0
    title: str = ""
    form: str = ""
    per: float = 1
    column: bool = True


# In the order of the tidy table's columns.
FIELDS: dict[str, Field] = {
    field.name: field
    for field in (
        Field("test_accuracy", "share"),
        Field("flip_averaged_accuracy", "share"),
        Field("test_loss", "loss"),
        Field("mirror_mean_accuracy", "share"),  # of the test images and their mirror images, the mean of both
        Field("true_class_probability", "share"),  # mean over the test images; of nets with cross-entropy
        Field("train_accuracy", "share"),
        Field("train_loss", "loss"),
        Field("validation_accuracy", "share"),
        Field("validation_loss", "loss"),
        Field("parameters", "count", cost=1, title="parameters", form=",.0f"),
        Field("forward_flops", "operations", cost=2, title="MFLOPs", form=",.2f", per=1e6),  # of one image
        Field("pool_flops", "operations", cost=3),
        Field("train_flops", "number"),
        Field("images_seen", "count"),
        Field("test_samples", "count"),
        Field("largest_class_share", "share"),  # of the test images: what always guessing that class would reach
        Field("train_samples", "count"),
        Field("validation_samples", "count"),
        # Of cells that trained side by side, so that none of these three is a cost of the pool.
        Field("train_seconds", "number", measured=True),
        Field("cell_seconds", "number", measured=True),
        Field("images_per_second", "number", measured=True),
        Field("peak_memory_bytes", "count", measured=True, cost=4),
        Field("resumed", "count", measured=True),  # how often it was taken up again
        Field("mixed_environment", "truth", measured=True),
        Field("finished", "text", measured=True),  # when
        # In place of the three numbers of operations where a pool says none of its own: without the pools that do not.
        Field("seen_flops", "operations", column=False),
        Field("epochs", "count", column=False),  # the config has it too
    )
}


def costs() -> Iterator[Field]:
    """The costs, in the order of a summary's columns."""
    return iter(sorted((field for field in FIELDS.values() if field.cost), key=lambda field: field.cost))


def columns() -> tuple[str, ...]:
    """The names of the tidy table's columns."""
    return tuple(field.name for field in FIELDS.values() if field.column)
