"""Hydra finds the sweeper of poolbench here: ``hydra/sweeper=poolbench``."""
