"""Reading config.yaml, quickly: of 10,000 records most say in most of their parts what another one said."""

import copy
import re

from poolbench.foreign import Unreadable, parsed_yaml, wrong_value

_PART = re.compile(rb"^(?=[A-Za-z_])", re.MULTILINE)
# What may make a part mean something else beside others than alone.
_TOGETHER = re.compile(rb"\r|<<|^(?:---|\.\.\.|%)", re.MULTILINE)
# As cells are called: letters and digits, which is text and no number.
_RUN_ID = re.compile(rb"run_id: ([A-Za-z][A-Za-z0-9_.+=-]*-s[0-9]+-[0-9a-f]+)\n?")
_MOST = 10_000  # parts that are kept
_known: dict[bytes, dict[str, object]] = {}  # what a part says; every record gets values of its own


def parsed_config(data: bytes) -> object:
    """What :func:`poolbench.foreign.parsed_yaml` gives for ``data``; each part at the left margin, ``model:`` and what
    is indented under it, is parsed once however many records have it. Raises: Unreadable."""
    value = _of_parts(data) if data.isascii() and not _TOGETHER.search(data) else None
    if value is None or wrong_value(value):
        return parsed_yaml(data)
    return value


def _of_parts(data: bytes) -> dict[str, object] | None:
    """The mapping of all parts; None where one is none for itself, as the half of a text in quotes."""
    value: dict[str, object] = {}
    first, *parts = _PART.split(data)
    if first or not parts:
        return None
    for part in parts:
        if match := _RUN_ID.fullmatch(part):
            value["run_id"] = match[1].decode()
            continue
        if part not in _known:
            try:
                said = parsed_yaml(part)
            except Unreadable:
                return None
            if not isinstance(said, dict):
                return None
            if len(_known) >= _MOST:
                _known.clear()
            _known[part] = said
        value |= copy.deepcopy(_known[part])
    return value
