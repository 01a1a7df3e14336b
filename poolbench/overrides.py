"""Options as text, ``pool.p=3``: how Hydra reads one, and how a value is written so that it is read."""

import re
import shlex
from functools import cache
from typing import Any

from poolbench.config_files import ConfigError


@cache
def parser() -> Any:
    """Hydra's parser of overrides."""
    from hydra.core.override_parser.overrides_parser import OverridesParser

    return OverridesParser.create()


def parse(text: str) -> Any:
    """One override as Hydra understands it. Raises: ConfigError with a hint how to quote."""
    from hydra.errors import HydraException

    refuse_cut([text])
    if "=" not in text and not text.startswith("~"):
        raise ConfigError(f"{text!r} is not an option: options look like pool=max or trainer.epochs=3")
    try:
        return parser().parse_override(text)
    except HydraException as error:
        key, _, value = text.partition("=")
        hint = shlex.quote(f"{key.strip()}={quoted(value.strip())}")
        raise ConfigError(
            f"cannot read {text!r}: a value with '=', spaces or other special characters needs quotes inside the "
            f"shell's: {hint}"
        ) from error


def refuse_cut(texts: list[str]) -> None:
    """Raises: ConfigError for an option that the shell cut in two at a space, as ``pool=max, average``."""

    def goes_on(left: str, right: str) -> bool:
        return (left.endswith(("=", ",")) and "=" not in right.lstrip("=")) or right.startswith(("=", ","))

    for number, text in enumerate(texts):
        parts = [text]
        for following in texts[number + 1 :]:
            if not goes_on(parts[-1], following):
                break
            parts.append(following)
        if len(parts) > 1 or text.endswith(",") or text.startswith(","):
            whole = shlex.quote("".join(parts).strip(","))
            raise ConfigError(
                f"{' '.join(parts)!r} is cut at its spaces: no space after a comma nor around the =, as {whole}"
            )


def quoted(value: str) -> str:
    """``value`` between quotes, as an override that Hydra reads as this very string."""
    # Backslashes stand for themselves but before a quote.
    return '"' + re.sub(r'(\\*)("|$)', lambda m: 2 * m[1] + ('\\"' if m[2] else ""), value) + '"'
