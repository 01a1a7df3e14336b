"""For pools of your own: :func:`over_windows`, which stands in :mod:`poolbench.pooling.parts.windows`."""

from poolbench.pooling.parts.windows import over_windows

__all__ = ["over_windows"]
