"""Text from records, made safe to show."""

from typing import Any


def printable(text: Any, keep: str = "") -> str:
    """``text`` with every character that does something instead of being seen written out, as ``\\x1b``.

    A name in somebody's record may move a terminal's cursor, rename its window, or turn the direction of writing.

    Args:
        text: anything; its ``str`` is taken.
        keep: characters that stay, such as ``"\\n"``.
    """
    text = str(text)
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() or c in keep else _written_out(c) for c in text)


def _written_out(character: str) -> str:
    return character.encode("unicode_escape", "surrogatepass").decode("ascii")
