"""Measurements: what a model costs (and, as they come, how invariant it is and what it keeps)."""
