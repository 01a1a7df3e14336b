"""The files of configs: where ours are, what a file must hold, and which options ours give to each component."""

import re
from functools import cache
from pathlib import Path
from typing import Any

from poolbench.foreign import Unreadable, parsed_yaml, read_bytes
from poolbench.messages import described

COMPONENTS = ("pool", "head", "model", "data", "optimizer", "schedule")
GROUPS = (*COMPONENTS, "trainer", "probe", "sweep")

_EXAMPLES = {
    **dict.fromkeys(COMPONENTS, "_target_: mypkg.MyClass"),
    "trainer": "epochs: 3",
    "probe": "sizes: [24, 32]",
    "sweep": "blocks:, with the list under it",
}


class ConfigError(ValueError):
    """An option is wrong; the message names it, its value and what is allowed."""


def config_dir() -> Path:
    """The folder of configs: ``conf/`` of the checkout when it stands beside the package, else the wheel's copy."""
    return shipped("conf")


def experiments_dir() -> Path:
    """``./experiments`` of the working folder where it exists, else the checkout's or the wheel's."""
    local = Path("experiments")
    return local.resolve() if local.is_dir() else shipped("experiments")


def pictures_dir() -> Path:
    """The folder of the pools' pictures, and of what is said of each, ``pools.json``."""
    return shipped("docs/pools")


def shipped(folder: str) -> Path:
    """``folder`` of the checkout when it stands beside the package, else the wheel's copy."""
    package = Path(__file__).resolve().parent
    checkout = package.parent / folder
    return checkout if (package.parent / "pyproject.toml").is_file() and checkout.is_dir() else package / folder


def read_file(path: Path) -> Any:
    """What the YAML file at ``path`` holds. Raises: ConfigError for what is no YAML, or no text."""
    try:
        return parsed_yaml(read_bytes(path))
    except Unreadable as error:
        raise ConfigError(f"{path} {error}") from error


def check_file(folders: list[Path], group: str, choice: str) -> None:
    """See that the file of ``group=choice`` in the first of ``folders`` that has it, and those of its group that it
    begins with, hold options.

    Raises: ConfigError naming the file, what it holds, and what it must hold.
    """
    todo, seen = [choice], set()
    while todo:
        name = todo.pop()
        path = next((path for folder in folders if (path := folder / group / f"{name}.yaml").is_file()), None)
        if path is None or path in seen or path.is_relative_to(config_dir()):
            continue  # what is not there is for Hydra to say, and ours are tested
        seen.add(path)
        content = read_file(path)
        if not isinstance(content, dict | None):
            raise ConfigError(
                f"{path} holds {described(content)}, and a file of {group}/ must hold options, a line each, as "
                f"{_EXAMPLES[group]}"
            )
        first = (content or {}).get("defaults")
        todo += [entry for entry in first if isinstance(entry, str)] if isinstance(first, list) else []


def reached_from_elsewhere(folders: list[Path]) -> set[str]:
    """Groups of which files outside of their own folder may change options, as a model's may those of the data."""
    import yaml

    reached: set[str] = set()
    paths = [path for folder in folders for group in GROUPS for path in (folder / group).rglob("*.yaml")]
    for path in [*paths, *(folder / "config.yaml" for folder in folders)]:
        text = path.read_text(encoding="utf-8") if path.is_file() else ""
        if "@" not in text and path.name != "config.yaml":
            continue
        header = re.search(r"^#\s*@package\s+(\S+)\s*$", text, flags=re.M)
        try:
            content = yaml.safe_load(text)
        except yaml.YAMLError:
            return set(GROUPS)
        places = [header[1]] if header else []
        lists = content.get("defaults", []) if isinstance(content, dict) else []
        if not isinstance(content, dict | None) or places not in ([], ["_global_"]) or "@" in repr(lists):
            return set(GROUPS)  # it puts things elsewhere in ways of its own
        if places or path.name == "config.yaml":
            reached |= {str(key) for key in content or {}}
    return reached


@cache
def our_block(group: str, choice: str) -> dict[str, Any]:
    """What our file of ``group=choice`` builds: ``_target_`` and options, with those of the file that it starts from.

    Hydra says the same, in a fifth of a second for each.
    """
    content = read_file(config_dir() / group / f"{choice}.yaml") or {}
    own = content.get(group, content)  # a file that changes other groups too has its own under its name
    parents = [entry for entry in content.get("defaults", []) if isinstance(entry, str) and entry != "_self_"]
    blocks = [*(our_block(group, name) for name in parents), own]
    return {option: value for block in blocks for option, value in block.items() if option != "defaults"}


@cache
def our_options(group: str, target: str) -> dict[str, Any] | None:
    """The options, with their defaults, of the component of ours at the dotted path ``target``; None for others."""
    for path in sorted((config_dir() / group).glob("*.yaml")):
        if target in path.read_text(encoding="utf-8"):
            block = our_block(group, path.stem)
            if block.get("_target_") == target:
                return {option: value for option, value in block.items() if option != "_target_"}
    return None
