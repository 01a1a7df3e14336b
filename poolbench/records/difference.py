"""What differs between two records: config, environment, result and learning curve."""

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from poolbench.dotted import flatten
from poolbench.records.fields import FIELDS
from poolbench.records.identity import identity, with_added
from poolbench.records.outcomes import compared
from poolbench.records.read import Record, same_content

# By every training anew, the same one included.
MEASURED = tuple(field.name for field in FIELDS.values() if field.measured)
_CALLED = ("run_id", "schema_version")
_TIMED = ("seconds", "images_per_second")  # columns of a learning curve


def difference(a: Record, b: Record) -> dict[str, Any]:
    """What differs between ``a`` and ``b``, as plain data.

    Returns: ``a`` and ``b`` (``run_id``, ``path``, ``state``); ``config``, ``outside`` (options that are no part of a
        cell's identity: places, device, threads, labels), ``environment``, ``result`` and ``measured`` (time, memory),
        each a mapping from a name to ``{"a": value, "b": value}``, less the one that a record does not have;
        ``test_accuracy_points`` (b minus a in percentage points, None unless both finished); ``images``, on which test
        images one alone is right (:class:`poolbench.records.outcomes.Comparison`; None where a record does not tell, or
        of other images); ``epoch``, what differs
        in the last epoch of the learning curves, and ``parts_in_epoch``, the first epoch that is not the same (None for
        equal curves); ``same_cell`` and ``same_result``: both finished, and all that is not measured anew is equal to
        the last bit, the learning curve included.
    """
    configs = [with_added(record.config) for record in (a, b)]
    inside = [flatten(identity(config)) for config in configs]
    everything = [flatten({k: v for k, v in config.items() if k != "run_id"}) for config in configs]
    changed = _differing(*everything)
    config = {k: v for k, v in changed.items() if k in inside[0] or k in inside[1]}
    same_cell = same_content(*(identity(config) for config in configs))
    results = [{k: v for k, v in (record.result or {}).items() if k not in _CALLED} for record in (a, b)]
    apart = _differing(*map(flatten, results))
    result = {k: v for k, v in apart.items() if k.partition(".")[0] not in MEASURED}
    points = None
    accuracies = [(record.result or {}).get("test_accuracy") for record in (a, b)]
    if None not in accuracies:
        points = 100 * (accuracies[1] - accuracies[0])
    both = a.outcomes is not None and b.outcomes is not None
    images = compared(a.outcomes, b.outcomes) if both and _same_images(a, b) else None
    last = [record.metrics[-1] if record.metrics else {} for record in (a, b)]
    parts_in = _first_differing(a.metrics, b.metrics)
    return {
        "a": _who(a),
        "b": _who(b),
        "same_cell": same_cell,
        # An older version may not have measured what a newer one did: what only one has is no contradiction.
        "same_result": a.result is not None
        and b.result is not None
        and parts_in is None
        and not any("a" in values and "b" in values for values in result.values()),
        "config": config,
        "outside": {k: v for k, v in changed.items() if k not in config},
        "environment": _differing(*(flatten(_without(record.environment, "created")) for record in (a, b))),
        "result": result,
        "test_accuracy_points": points,
        "images": None if images is None else asdict(images),
        "measured": {k: v for k, v in apart.items() if k not in result},
        "epoch": _differing(*last),
        "parts_in_epoch": parts_in,
    }


def _same_images(a: Record, b: Record) -> bool:
    return a.config.get("data_fingerprint") == b.config.get("data_fingerprint")


def _who(record: Record) -> dict[str, str]:
    return {"run_id": record.run_id, "path": str(record.path), "state": record.state}


def _without(values: Mapping[str, Any], *names: str) -> dict[str, Any]:
    return {name: value for name, value in values.items() if name not in names}


def _differing(a: Mapping[str, Any], b: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Names of which the values differ; null is as good as missing."""
    found = {}
    for name in dict.fromkeys([*a, *b]):
        if name and not same_content(a.get(name), b.get(name)):
            found[name] = {side: values[name] for side, values in (("a", a), ("b", b)) if values.get(name) is not None}
    return found


def _first_differing(a: list[dict[str, Any]], b: list[dict[str, Any]]) -> int | None:
    for number in range(max(len(a), len(b))):
        rows = [_without(rows[number], *_TIMED) if number < len(rows) else None for rows in (a, b)]
        if rows[0] is None or rows[1] is None or _differing(rows[0], rows[1]):
            return number + 1
    return None
