"""poolbench: which pooling should I put in my CNN, what does it cost, and is the difference real?"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

# Name -> where it is defined. Importing poolbench must stay cheap: torch is imported when one of these is used.
_PUBLIC = {
    "create_pool": "poolbench.pooling",
    "list_pools": "poolbench.pooling",
    "create_head": "poolbench.heads",
    "list_heads": "poolbench.heads",
    "create_model": "poolbench.models",
    "list_models": "poolbench.models",
    "swap": "poolbench.models.swap",
    "list_data": "poolbench.data",
    "load": "poolbench.trained",
}

__all__ = ["__version__", *_PUBLIC]

if TYPE_CHECKING:
    from poolbench.data import list_data
    from poolbench.heads import create_head, list_heads
    from poolbench.models import create_model, list_models
    from poolbench.models.swap import swap
    from poolbench.pooling import create_pool, list_pools
    from poolbench.trained import load


def __getattr__(name: str) -> Any:
    if name in _PUBLIC:
        return getattr(import_module(_PUBLIC[name]), name)
    raise AttributeError(f"module 'poolbench' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
