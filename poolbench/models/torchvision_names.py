"""Which nets ``model=torchvision`` takes, told without importing torchvision, which costs seconds."""

import re
from functools import cache
from importlib.util import find_spec
from pathlib import Path

NO_MAP = ("vit_", "maxvit_")  # their last map is none, or of one size only


@cache
def names() -> tuple[str, ...]:
    """The classifiers of torchvision with a last map that another head can take, as its own files register them."""
    spec = find_spec("torchvision")
    files = [
        path for place in (spec and spec.submodule_search_locations) or () for path in Path(place).glob("models/*.py")
    ]
    texts = [path.read_text(encoding="utf-8") for path in sorted(files)]
    found = [
        name for text in texts for name in re.findall(r"^@register_model\(\)\n(?:@.*\n)*def (\w+)\(", text, flags=re.M)
    ]
    return tuple(name for name in found if not name.startswith(NO_MAP))


def meant(name: str) -> str:
    """The net of torchvision that ``name`` is, but for case, dashes and underscores; empty if there is none."""
    alike = {one.replace("_", ""): one for one in names()}
    return alike.get(re.sub(r"[-_ ]", "", name.lower()), "")
