"""The plans of published experiments, made once for all tests of a worker: composing them takes seconds."""

from functools import cache

from poolbench.sweep.cells import Plan
from poolbench.sweep.plan import make_plan


@cache
def planned(name: str, scale: str = "") -> Plan:
    """What ``poolbench plan sweep=NAME`` plans, at ``scale`` or the usual one."""
    return make_plan([f"sweep={name}", *([f"scale={scale}"] if scale else [])])
