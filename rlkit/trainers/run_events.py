"""The side of a run that others see: metrics, rollouts on disk, checkpoints, hooks."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from rlkit.plugin.hooks import HookRelay
from rlkit.plugin.hookspecs import RunInfo
from rlkit.tracking.checkpoints import CheckpointStore
from rlkit.tracking.rollouts_file import write_rollouts
from rlkit.tracking.run_folder import LOGGER
from rlkit.trainers.memory_metrics import memory_metrics
from rlkit.types import Experience, Reward


@dataclass
class RunEvents:
    """Passes every event of a run on to its hooks and writes what the run folder must hold.

    fill_checkpoint writes one checkpoint's content into an empty folder; rollouts_folder None writes no rollouts.
    """

    run: RunInfo
    hooks: HookRelay
    checkpoints: CheckpointStore
    fill_checkpoint: Callable[[Path], None]
    rollouts_folder: Path | None = None
    saved_step: int = -1

    def rollouts_ready(
        self, step: int, experience: Experience, responses: Sequence[str], rewards: Sequence[Reward]
    ) -> None:
        if self.rollouts_folder is not None:
            write_rollouts(self.rollouts_folder, step, experience, responses, rewards)
        self.hooks.rollouts_ready(run=self.run, step=step, rollouts=experience.rollouts, rewards=rewards)

    def step_finished(self, step: int, metrics: Mapping[str, float]) -> None:
        self.hooks.step_finished(run=self.run, step=step, metrics={**metrics, **memory_metrics()})

    def validation_finished(self, step: int, metrics: Mapping[str, float]) -> None:
        LOGGER.info("validation after step %d: %s", step, metrics)
        self.hooks.validation_finished(run=self.run, step=step, metrics=metrics)

    def save_checkpoint(self, step: int, *, spare: Collection[int] = ()) -> None:
        """Write the checkpoint of `step`, once; older ones of the steps in `spare` are kept."""
        if self.saved_step == step:
            return
        folder = self.checkpoints.write(step, self.fill_checkpoint, spare=spare)
        self.saved_step = step
        LOGGER.info("checkpoint %s", folder)
        self.hooks.checkpoint_saved(run=self.run, step=step, folder=folder)
