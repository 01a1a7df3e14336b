"""Redraw all that is published from the committed records: ``results/*/`` and the marked parts of the README files.

    python scripts/refresh_results.py

Records are ``results/<name>/records.jsonl``. Where nothing changed, nothing is written.
"""

import sys
from pathlib import Path

from poolbench.cli.published import refresh

ROOT = Path(__file__).resolve().parents[1]


def main() -> int:
    """Returns: the exit code."""
    for line in refresh(ROOT):
        print(line, flush=True)
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except ValueError as error:
        sys.exit(f"refresh_results: {error}")
