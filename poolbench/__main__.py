"""``python -m poolbench``."""

import os
import sys

# Python looks into the working folder first; the yaml.py in a folder of somebody's records must not be run by looking
# at them. Commands that build the user's own components take the folder in again, last.
if __name__ == "__main__" and sys.path[:1] == [os.getcwd()]:
    del sys.path[0]

from poolbench.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
