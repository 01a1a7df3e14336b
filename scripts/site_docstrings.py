"""How the docstrings of :mod:`poolbench.api` are read for the site: their marks become Markdown."""

import re
from typing import Any

from griffe import Extension

_TOLD = re.compile(r"^(Returns|Raises|Yields|Source|Shape): ", flags=re.M)


class Docstrings(Extension):
    """References become code, and what a call returns and raises paragraphs of their own."""

    def on_instance(self, *, obj: Any, **_: Any) -> None:
        """Change the docstring of ``obj``, where it has one."""
        if obj.docstring:
            obj.docstring.value = as_markdown(obj.docstring.value)


def as_markdown(text: str) -> str:
    """``text`` in Markdown; its ``Args:`` stay, as they are found by their form."""
    text = re.sub(r":\w+:`~?([^`]+)`", r"`\1`", text)
    text = re.sub(r"``([^`]+)``", r"`\1`", text)
    # What goes on below is indented: as code, if it stayed so.
    parts = re.split(r"(?m)^(?=(?:Returns|Raises|Yields|Args|Source|Shape):)", text)
    return "\n\n".join(
        _TOLD.sub(r"**\1.** ", re.sub(r"\n +", "\n", part.strip()), count=1) if _TOLD.match(part) else part.rstrip()
        for part in parts
    )
