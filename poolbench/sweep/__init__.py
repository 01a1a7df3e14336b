"""Sweeps: which cells, in what state, trained by whom. Nothing here imports torch but the workers' own processes."""
