"""``python -m poolbench``."""

import sys

from poolbench.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
