"""Times of day as records write them."""

from datetime import UTC, datetime


def now() -> str:
    """The time now, ``2026-11-23T21:40:12+00:00``."""
    return datetime.now(UTC).isoformat(timespec="seconds")
