"""Whether two folders of records hold the same cells with the same results, to the last bit.

python scripts/check_same_results.py RUNS OTHER_RUNS
"""

import json
import sys
from pathlib import Path

KEYS = ("test_accuracy", "test_loss", "train_accuracy", "train_loss")


def main() -> int:
    one, other = (results(Path(folder)) for folder in sys.argv[1:3])
    if not one or one.keys() != other.keys():
        print(f"not the same cells: {sorted(one.keys() ^ other.keys()) or 'none at all'}")
        return 1
    different = [(cell, key) for cell in one for key in KEYS if one[cell][key] != other[cell][key]]
    for cell, key in different:
        print(f"{cell}: {key} is {one[cell][key]!r} and {other[cell][key]!r}")
    if not different:
        print(f"test and training loss and accuracy of all {len(one)} cells are bit-identical")
    return 1 if different else 0


def results(folder: Path) -> dict[str, dict]:
    return {path.parent.name: json.loads(path.read_text()) for path in folder.glob("*/result.json")}


if __name__ == "__main__":
    sys.exit(main())
