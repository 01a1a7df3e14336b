"""Redraw all that is published from the committed records: ``results/*/`` and the marked parts of the README files.

    python scripts/refresh_results.py

Records are ``results/<name>/records.jsonl``. Where nothing changed, nothing is written.
"""

import re
import sys
from pathlib import Path

from poolbench.records.store import write_text
from poolbench.report import write_report

ROOT = Path(__file__).resolve().parents[1]


def main() -> int:
    """Returns: the exit code; 1 when a README asks for results that are not there."""
    for archive in sorted((ROOT / "results").glob("*/records.jsonl")):
        report = write_report(archive, archive.parent)
        print(f"{archive.parent.relative_to(ROOT)}: {len(report.files)} files, {len(report.drawn)} figures drawn anew")
    for page in [ROOT / "README.md", *sorted((ROOT / "experiments").glob("*/README.md"))]:
        text = page.read_text(encoding="utf-8")
        new = re.sub(
            r"(<!-- results: (\S+) -->\n).*?(<!-- end -->)", lambda m: m[1] + _table(m[2]) + m[3], text, flags=re.S
        )
        if new != text:
            write_text(page, new)
            print(f"{page.relative_to(ROOT)}: brought up to date")
    return 0


def _table(name: str) -> str:
    path = ROOT / "results" / name / "summary.md"
    if not path.exists():
        sys.exit(f"{path.relative_to(ROOT)} is named in a README and is not there")
    lines = path.read_text(encoding="utf-8").strip().splitlines()
    # The page has headings of its own.
    kept = [f"**{line[3:]}**" if line.startswith("## ") else line for line in lines if not line.startswith("# ")]
    return "\n".join(kept).strip() + "\n"


if __name__ == "__main__":
    sys.exit(main())
