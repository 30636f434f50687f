"""The side of a run that others see: metrics, rollouts on disk, checkpoints, hooks."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from rlkit.errors import CheckpointError
from rlkit.plugin.hooks import HookRelay
from rlkit.plugin.hookspecs import RunInfo
from rlkit.tracking.checkpoint_writer import CheckpointWriter, Written
from rlkit.tracking.rollouts_file import GreedyAnswers, write_rollouts
from rlkit.tracking.run_folder import LOGGER
from rlkit.trainers.judged import Judged
from rlkit.trainers.memory_metrics import memory_metrics
from rlkit.types import Experience


@dataclass
class RunEvents:
    """Passes every event of a run on to its hooks and writes what the run folder must hold.

    rollouts_folder          None writes no rollouts
    stop_on_checkpoint_error whether a checkpoint that cannot be written ends the run, or is warned about
    failure                  of the newest checkpoint, if it could not be written
    """

    run: RunInfo
    hooks: HookRelay
    checkpoints: CheckpointWriter
    rollouts_folder: Path | None = None
    stop_on_checkpoint_error: bool = True
    saved_step: int = -1
    failure: CheckpointError | None = None

    def rollouts_ready(self, step: int, experience: Experience, judged: Judged, greedy: Judged | None = None) -> None:
        """The answers of a step, what was learned from them, and each prompt's greedy answer where there is one."""
        responses, rewards = judged.responses, judged.rewards
        if self.rollouts_folder is not None:
            of_greedy = None if greedy is None else _greedy_answers(greedy)
            write_rollouts(self.rollouts_folder, step, experience, responses, rewards, of_greedy)
        self.hooks.rollouts_ready(
            run=self.run, step=step, rollouts=experience.rollouts, rewards=rewards, responses=responses
        )

    def step_finished(self, step: int, metrics: Mapping[str, float]) -> None:
        self.hooks.step_finished(run=self.run, step=step, metrics={**metrics, **memory_metrics()})
        self._follow(self.checkpoints.take_finished)

    def validation_finished(self, step: int, metrics: Mapping[str, float]) -> None:
        LOGGER.info("validation after step %d: %s", step, metrics)
        self.hooks.validation_finished(run=self.run, step=step, metrics=metrics)
        self.saved_step = -1  # the record of it is part of the state

    def checkpoint_saved(self, step: int, folder: Path) -> None:
        """A checkpoint is whole. A resumed run says it once more of its own: the one before may have died too early to."""
        LOGGER.info("checkpoint %s", folder)
        self.hooks.checkpoint_saved(run=self.run, step=step, folder=folder)

    def resumed_from(self, step: int, folder: Path) -> None:
        """The run goes on from a whole checkpoint, which is not written once more."""
        self.saved_step = step
        self.checkpoint_saved(step, folder)

    def save_checkpoint(self, step: int, *, spare: Collection[int] = ()) -> None:
        """Write the checkpoint of `step`, once; older ones of the steps in `spare` are kept.

        In the background: hooks hear of it after a later step, or at the end.
        """
        if self.saved_step == step:
            return
        self._follow(self.checkpoints.wait)
        self.saved_step = step
        self._follow(lambda: self.checkpoints.begin(step, spare=spare))

    @contextmanager
    def settling_checkpoints(self) -> Iterator[None]:
        """Training, after which no checkpoint is under way any more, however it ended; a second Ctrl-C waits for nothing."""
        try:
            yield
        except KeyboardInterrupt:
            raise
        except BaseException:
            try:
                self._follow(self.checkpoints.wait)
            except Exception as error:
                LOGGER.warning("%s", error)  # what ended the training matters more
            raise
        self._follow(self.checkpoints.wait)

    def check_saved(self) -> None:
        """Raise `CheckpointError` if the newest checkpoint could not be written: such a run has not succeeded."""
        if self.failure is not None:
            raise self.failure

    def _follow(self, action: Callable[[], Written | None]) -> None:
        """Do something with the checkpoint that is under way, and say what became of it."""
        try:
            written = action()
        except CheckpointError as error:
            advice = "those before it are whole: remove the cause, and run the same command again"
            self.failure = CheckpointError(f"{error}; {advice}")
            if self.stop_on_checkpoint_error:
                raise self.failure from error
            LOGGER.warning("%s; going on without it", error)
            return
        if written is not None:
            self.failure = None
            self.checkpoint_saved(written.step, written.folder)


def _greedy_answers(greedy: Judged) -> GreedyAnswers:
    """As the rollouts file has them: its rows are those of the prompts, in the order of the group ids."""
    return GreedyAnswers(
        scores=[reward.score for reward in greedy.rewards],
        tokens=[int(row.sum()) for row in greedy.rollouts.response_mask.rows()],
        errors=[reward.error for reward in greedy.rewards],
    )
