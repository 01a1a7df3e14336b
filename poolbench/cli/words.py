"""Numbers in words for a terminal."""


def duration(seconds: float | None) -> str:
    """``1:05`` or ``2:03:04``; ``-`` for None."""
    if seconds is None:
        return "-"
    minutes, rest = divmod(max(0, round(seconds)), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def percent(share: float | None) -> str:
    """``71.3 %``; ``-`` for None."""
    return "-" if share is None else f"{100 * share:.1f} %"
