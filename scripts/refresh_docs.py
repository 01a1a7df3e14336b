"""Write ``docs/pools.md`` with its pictures, ``docs/heads.md`` and ``docs/models.md`` anew, from the docstrings, the
files in ``conf``, what each component says and costs, and the measured speed of the pools (``docs/speed.json``, see
``scripts/benchmark_operators.py``).

    python scripts/refresh_docs.py

Pictures are drawn again only where the numbers in them changed by more than another machine's last digits, or where
drawing them did. Where nothing changed, nothing is written.
"""

import json
import sys
from collections.abc import Callable
from pathlib import Path

from pages import heads, models, pictures, pools
from pages.docstrings import ROOT

from poolbench.pooling import POOLS
from poolbench.records.files import write_text

PAGES: dict[Path, Callable[[], str]] = {
    ROOT / "docs/pools.md": pools.page,
    ROOT / "docs/heads.md": heads.page,
    ROOT / "docs/models.md": models.page,
}


def main() -> int:
    """Returns: the exit code."""
    _refresh_pictures()
    for path, page in PAGES.items():
        _refresh(path, page())
    return 0


def _refresh_pictures() -> None:
    pictures.PICTURES.mkdir(exist_ok=True)
    known = pictures.shown_numbers()
    for name in POOLS.table:
        now = pictures.pictured(name).tolist()
        if not pictures.alike(known.get(name), now) or not (pictures.PICTURES / f"{name}.png").exists():
            known[name] = now
            pictures.draw(name, now)
            print(f"docs/pools/{name}.png drawn")
    for path in pictures.PICTURES.glob("*.png"):
        if path.stem not in POOLS.table:
            path.unlink()
    lines = ",\n".join(f"{json.dumps(name)}: {json.dumps(known[name])}" for name in POOLS.table)
    numbers = f'{{"drawn by": "{pictures.drawn_by()}", "numbers": {{\n{lines}\n}}}}\n'
    _refresh(pictures.NUMBERS, numbers)
    told = ",\n".join(f"{json.dumps(name)}: {json.dumps(one)}" for name, one in pools.told().items())
    _refresh(pools.TOLD, f"{{\n{told}\n}}\n")


def _refresh(path: Path, text: str) -> None:
    if not path.exists() or path.read_text(encoding="utf-8") != text:
        write_text(path, text)
        print(f"{path.relative_to(ROOT)} written")


if __name__ == "__main__":
    sys.exit(main())
