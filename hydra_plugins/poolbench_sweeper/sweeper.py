"""A sweeper for Hydra that hands the open cells of a poolbench plan to whatever launcher is configured."""

from dataclasses import dataclass
from typing import Any

from hydra.core.config_store import ConfigStore
from hydra.core.plugins import Plugins
from hydra.plugins.launcher import Launcher
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig


@dataclass
class PoolbenchSweeperConf:
    _target_: str = "hydra_plugins.poolbench_sweeper.sweeper.PoolbenchSweeper"


# Hydra imports every plugin at every start: nothing but Hydra is imported here.
ConfigStore.instance().store(
    group="hydra/sweeper", name="poolbench", node=PoolbenchSweeperConf, provider="poolbench_sweeper"
)


class PoolbenchSweeper(Sweeper):
    """One job a cell. The arguments are those of a cell each, as ``poolbench.sweep.job`` writes them: what a sweep
    consists of, which cells are done and what to do about failures is decided there and in the plan."""

    def __init__(self) -> None:
        self.hydra_context: HydraContext | None = None
        self.config: DictConfig | None = None
        self.launcher: Launcher | None = None

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        self.hydra_context, self.config = hydra_context, config
        self.launcher = Plugins.instance().instantiate_launcher(
            hydra_context=hydra_context, task_function=task_function, config=config
        )

    def sweep(self, arguments: list[str]) -> Any:
        """Start a job for each cell that the plan file among ``arguments`` holds, and wait for them as the launcher
        does. Returns: the launcher's own returns; what became of the cells is in their records."""
        from poolbench.sweep.job import jobs

        assert self.launcher is not None
        return self.launcher.launch(jobs(arguments), initial_job_idx=0)
