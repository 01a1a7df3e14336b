"""How much of the suite runs: ``make test`` the quick part, ``make test-all`` everything, at full width."""

import os

ALL = os.environ.get("POOLBENCH_TESTS") == "all"
