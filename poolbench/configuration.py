"""From a command line to a completed config: every option with its value, checked, as plain data."""

import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from poolbench.compositions import Compositions
from poolbench.config_files import COMPONENTS, GROUPS, ConfigError, check_file, config_dir
from poolbench.contents import content_of, installed_version
from poolbench.dotted import flatten
from poolbench.heads import HEADS
from poolbench.messages import unknown_choice, unknown_option
from poolbench.models import MODELS
from poolbench.models.torchvision_names import meant as meant_of_torchvision
from poolbench.overrides import quoted
from poolbench.pooling import POOLS
from poolbench.registry import nearest

REGISTRIES = {"pool": POOLS, "head": HEADS, "model": MODELS}
WORDS = (*GROUPS, "seed", "runs_dir", "report_dir", "seeds", "scale", "tuned")  # options that stand alone
OWN_NET_MADE = ("weights_content", "builder_version")  # the same, of a net of the user's own
MADE = ("names", "data_fingerprint", "run_id", "tuned")  # keys of a completed config that are ours to fill


class Composer:
    """Completes configs; made once for many cells by :func:`composer`, since Hydra's start costs more than a cell."""

    def __init__(self, folders: list[Path]):
        self.folders = folders  # of configs, ours first
        self._blocks: dict[tuple[str, str], dict[str, Any]] = {}
        self._checked: set[tuple[str, str]] = set()  # group, choice
        self.earlier = Compositions(folders, self.block)
        self.interpolates = self.earlier.interpolates

    def complete(self, overrides: Iterable[str]) -> dict[str, Any]:
        """The config of one cell.

        Args:
            overrides: as on the command line, ``["pool=lp", "pool.p=3", "seed=1"]``, one value each.
        Returns: plain nested data with every option, and ``names``: what to call each component in tables.
        Raises: ConfigError.
        """
        wanted = [self._spelt_out(override) for override in overrides]
        flat = [text for texts in wanted for text in texts]
        config, choices = self.earlier.like(flat) or self._composed(flat)
        for key in MADE:
            if key in config:
                raise ConfigError(f"unknown option {key!r}: poolbench fills it in itself")
        if choices["pool"] == "per_site":
            config["pool"], pool_name = self._sites(config["pool"]["sites"])
        for group in COMPONENTS:
            chosen = config.get(group)
            for block in chosen if isinstance(chosen, list) else [chosen]:
                if not isinstance(block, dict) or not isinstance(block.get("_target_"), str):
                    raise ConfigError(f"{group}={choices.get(group)} needs _target_, the dotted path of what it builds")
        self._complete_own_net(config["model"], choices["model"])
        names = {group: self._label(group, choices[group], config[group]) for group in COMPONENTS if group != "pool"}
        config["names"] = {
            "pool": pool_name
            if choices["pool"] == "per_site"
            else self._label("pool", choices["pool"], config["pool"]),
            **names,
        }
        return config

    def block(self, group: str, choice: str) -> dict[str, Any]:
        """The options of ``choice`` with their defaults, as ``conf/<group>/<choice>.yaml`` lists them."""
        from omegaconf import OmegaConf

        if (group, choice) not in self._blocks:
            override = f"{group}={choice}"
            self._check_choices([override])
            file = next((path for f in self.folders if (path := f / group / f"{choice}.yaml").is_file()), None)
            if file is None:  # of an installed package
                return {"_target_": installed(group)[choice].replace(":", ".")}
            with self._explaining([override]):
                block = OmegaConf.load(file)
                # Composing takes ten times as long as reading, and most files stand for themselves.
                if "defaults" in block or "@package" in file.read_text(encoding="utf-8"):
                    block = OmegaConf.select(self._compose([override]), group)
                self._blocks[group, choice] = OmegaConf.to_container(block, throw_on_missing=False) if block else {}
        return self._blocks[group, choice]

    def choices(self, group: str) -> list[str]:
        """Names that ``group=`` takes: files of configs, and what installed packages offer."""
        files = {path.stem for folder in self.folders for path in (folder / group).glob("*.yaml")}
        return sorted(files | set(installed(group)))

    def _composed(self, overrides: list[str]) -> tuple[dict[str, Any], dict[str, str]]:
        """The config of ``overrides`` as Hydra composes it, and which file of each group it took."""
        from omegaconf import OmegaConf

        with self._explaining(overrides):
            composed = self._compose(overrides, return_hydra_config=True)
            choices = dict(composed.hydra.runtime.choices)
            OmegaConf.set_struct(composed, False)
            del composed["hydra"]
            config = OmegaConf.to_container(composed, resolve=True, throw_on_missing=True)
        assert isinstance(config, dict)
        self.earlier.keep(overrides, config, choices)
        return config, choices

    def _compose(self, overrides: list[str], **options: Any) -> Any:
        from hydra import compose

        self._check_choices(overrides)
        more = [quoted(f"file://{folder}") for folder in self.folders[1:]]
        searchpath = [f"hydra.searchpath=[{','.join(more)}]"] if more else []
        return compose("config", overrides=[*searchpath, *overrides], **options)

    @contextmanager
    def _explaining(self, overrides: list[str]) -> Iterator[None]:
        """Raises: ConfigError for whatever Hydra, OmegaConf or the YAML of a user's file complains of."""
        from hydra.errors import HydraException
        from omegaconf.errors import MissingMandatoryValue, OmegaConfBaseException
        from yaml import YAMLError

        try:
            yield
        except MissingMandatoryValue as error:
            key = str(getattr(error, "full_key", "") or "").strip(".")
            hint = "; it is the dotted path of your class, as mypkg.MyPool" if key.endswith("_target_") else ""
            raise ConfigError(f"{key} needs a value{hint}") from error
        except (HydraException, OmegaConfBaseException) as error:
            raise self._explained(error, overrides) from error
        except YAMLError as error:
            raise ConfigError(f"a config file is no YAML: {' '.join(str(error).split())}") from error

    def _spelt_out(self, override: str) -> list[str]:
        """``pool=[max,average]``: Hydra would merge the two files into one; we mean one per site. ``pool=mine`` of an
        installed package has no file."""
        key, _, value = override.partition("=")
        if key == "pool" and value.lstrip().startswith("["):
            return ["pool=per_site", f"pool.sites={value}"]
        if value in installed(key) and not any((folder / key / f"{value}.yaml").is_file() for folder in self.folders):
            return [f"{key}=custom", f"{key}._target_={installed(key)[value].replace(':', '.')}"]
        return [override]

    def _sites(self, sites: Any) -> tuple[list[dict[str, Any]], str]:
        if not isinstance(sites, list) or not sites:
            raise ConfigError(f"pool.sites must be a list with one pool per site, got {sites!r}")
        blocks, labels = [], []
        for entry in sites:
            name, options = next(iter(entry.items())) if isinstance(entry, dict) and len(entry) == 1 else (entry, {})
            if not isinstance(name, str) or not isinstance(options, dict):
                raise ConfigError(f"pool.sites: an entry is a name or {{name: {{option: value}}}}, got {entry!r}")
            block = dict(self.block("pool", name))
            for option in options:
                if option not in block:
                    raise ConfigError(f"pool.sites: {name} has no option {option!r}.{nearest(option, list(block))}")
            blocks.append({**block, **options})
            labels.append(self._label("pool", name, blocks[-1]))
        return blocks, "+".join(labels)

    def _complete_own_net(self, model: Any, choice: str) -> None:
        """Add to the options of a net that is none of ours what tells its weights and its package from others."""
        if not isinstance(model, dict) or choice != "custom":
            return
        for key in OWN_NET_MADE:
            if key in model:
                raise ConfigError(f"unknown option 'model.{key}': poolbench fills it in itself")
        target, weights = model["_target_"], model.get("load_weights")
        if isinstance(weights, str):
            if not Path(weights).is_file():
                raise ConfigError(f"model.load_weights must be a file of weights, got {weights!r}: there is none")
            model["weights_content"] = content_of(weights)
        # A plugin's model has had its name since before versions counted.
        offered = {place.replace(":", ".") for place in installed("model").values()}
        if target not in offered and (version := installed_version(target)):
            model["builder_version"] = version

    def _label(self, group: str, choice: str, block: dict[str, Any]) -> str:
        """``lp`` or ``lp(p=3.0)``: the choice, and the options in which it differs from its file."""
        default = self.block(group, choice)
        if choice == "custom":
            choice = str(block["_target_"]).rpartition(".")[2]
        # Neither where data lies nor how training images are varied makes another data set.
        quiet = {"_target_", "root", "download", "mirrors", "augmentation", "validation", *OWN_NET_MADE}
        other = {k: v for k, v in block.items() if k not in quiet and (k not in default or default[k] != v)}
        options = ",".join(f"{key}={_short(value)}" for key, value in other.items())
        return f"{choice}({options})" if options else choice

    def _check_choices(self, overrides: list[str]) -> None:
        for override in overrides:
            key, _, value = override.partition("=")
            if key in GROUPS and re.fullmatch(r"[\w.\-/]*", value):
                known = self.choices(key)
                if value not in known:
                    raise ConfigError(unknown_choice(key, value, known, _meant(key, value)))
                if (key, value) not in self._checked:
                    check_file(self.folders, key, value)
                    self._checked.add((key, value))

    def _explained(self, error: Exception, overrides: list[str]) -> ConfigError:
        """Hydra's complaint in our words: which option, and what it may have been meant to be."""
        text = str(error)
        match = re.search(r"Could not override '([^']+)'", text) or re.search(r"Key '([^']+)' is not in struct", text)
        if match is None:
            return ConfigError(text.partition("\n")[0])
        keys = [override.partition("=")[0] for override in overrides]
        key = match[1] if match[1] in keys else next((key for key in keys if key.endswith(f".{match[1]}")), match[1])
        options = self.options([o for o in overrides if o.partition("=")[0] in GROUPS])
        held = key if options.get(key) == {} else key.rpartition(".")[0]
        if options.get(held) == {}:  # a mapping that is the user's to fill
            example = key if key != held else f"{held}.NAME"
            return ConfigError(f"{held} is filled with a plus before each: +{example}=VALUE")
        target = options.get(f"{key.partition('.')[0]}._target_", "")
        own = isinstance(target, str) and target != "" and not target.startswith("poolbench.")
        return ConfigError(unknown_option(key, list(options), WORDS, own and "." in key))

    def options(self, overrides: list[str]) -> dict[str, Any]:
        """Every option with its value, ``optimizer.lr`` and the like, where ``overrides`` choose files.

        Raises: ConfigError.
        """
        from omegaconf import OmegaConf

        with self._explaining(overrides):
            return flatten(OmegaConf.to_container(self._compose(overrides)), lists=False)


def _meant(group: str, value: str) -> str:
    """What ``group=value`` surely means: a class of ours, a net of torchvision's; empty where nobody knows."""
    if group in REGISTRIES and (name := REGISTRIES[group].name_of(value)):
        return f"{group}={name}"
    net = meant_of_torchvision(value) if group == "model" else ""
    return f"model=torchvision model.name={net}" if net else ""


@contextmanager
def composer(folders: Iterable[Path] = ()) -> Iterator[Composer]:
    """A :class:`Composer` over our configs and those in ``folders`` of the user's own.

    Raises: ConfigError for a folder that is not there.
    """
    from hydra import __version__, initialize_config_dir
    from hydra.core.global_hydra import GlobalHydra

    own = [Path(folder).resolve() for folder in folders]
    for folder in own:
        if not folder.is_dir():
            raise ConfigError(f"--config-dir: there is no folder {folder}")
    GlobalHydra.instance().clear()
    # Hydra 1.4 drops version_base and warns of it.
    old = {"version_base": "1.3"} if __version__.startswith(("1.2", "1.3")) else {}
    with initialize_config_dir(config_dir=str(config_dir()), job_name="poolbench", **old):
        yield _composer_of([config_dir(), *own])


_latest: dict[Any, Composer] = {}  # no more than one


def _composer_of(folders: list[Path]) -> Composer:
    """The latest one where it is of these folders and no file of theirs has changed: what it composed still holds."""
    files = sorted(path for folder in folders for path in folder.rglob("*.yaml"))
    key = (*folders, *((path, (seen := path.stat()).st_mtime_ns, seen.st_size, seen.st_ino) for path in files))
    if key not in _latest:
        _latest.clear()
        _latest[key] = Composer(folders)
    return _latest[key]


def installed(group: str) -> dict[str, str]:
    """Name -> location of the components of kind ``group`` that installed packages offer by entry points."""
    if group not in REGISTRIES:
        return {}
    table = REGISTRIES[group].table
    return {name: place for name, place in REGISTRIES[group].locations().items() if name not in table}


def _short(value: Any) -> str:
    if isinstance(value, list):
        return "[" + ",".join(_short(item) for item in value) + "]"
    if isinstance(value, float) and value.is_integer() and abs(value) < 1e15:
        return str(int(value))  # one cell has one name, whether 3 or 3.0 was typed
    return str(value).lower() if isinstance(value, bool) else str(value)
