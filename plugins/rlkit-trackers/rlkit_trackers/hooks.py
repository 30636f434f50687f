"""From run events to a tracker's calls, which happen on a thread of its own: training waits for none of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path

from rlkit.plugin.hookspecs import RunInfo, RunStatus, hookimpl
from rlkit.plugin.references import describe_error
from rlkit.tracking.run_folder import LOGGER
from rlkit.types import Reward, Rollouts
from rlkit_trackers.answers import training_table, validation_table
from rlkit_trackers.background import BackgroundCalls
from rlkit_trackers.identity import run_identity
from rlkit_trackers.options import MLflowOptions, TensorBoardOptions, TrackerOptions, TrackioOptions, WandbOptions
from rlkit_trackers.sent_steps import SentSteps
from rlkit_trackers.tracker import Tracker

PAUSES_S = (1.0, 5.0, 30.0, 120.0, 600.0)
"""Before further attempts at what a tracker did not take: a server that is restarted must not cost the rest of a long run."""


class TrackerHook:
    """Passes a run on to a tracker. A tracker that fails, hangs or is too slow costs a warning, and nothing else."""

    def __init__(self, name: str, make: Callable[[], Tracker], options: TrackerOptions) -> None:
        """make: called on the tracker's thread, so that importing its package may fail or hang too."""
        self._name = name
        self._make = make
        self._options = options
        self._tracker: Tracker | None = None
        self._sent: SentSteps | None = None  # None: the tracker replaces what it is sent again
        self._calls: BackgroundCalls | None = None

    @hookimpl
    def run_started(self, run: RunInfo) -> None:
        self._calls = BackgroundCalls(
            self._name, limit=self._options.queue, on_failure=self._give_up, pauses_s=PAUSES_S
        )
        # Most often it is a setting that is in the way; and what begins a run twice may leave two.
        self._submit(partial(self._start, run), again=False)

    @hookimpl
    def rollouts_ready(
        self, step: int, rollouts: Rollouts, rewards: Sequence[Reward], responses: Sequence[str]
    ) -> None:
        every, rows = self._options.answers_every, self._options.answers
        if rows and every and step % every == 0:
            table = training_table(step, rollouts, rewards, responses, rows=rows)
            self._submit(partial(self._send, table.title, step, lambda tracker: tracker.log_answers(table)))

    @hookimpl
    def step_finished(self, step: int, metrics: Mapping[str, float]) -> None:
        copied = dict(metrics)
        self._submit(partial(self._send, "metrics", step, lambda tracker: tracker.log_metrics(step, copied)))

    @hookimpl
    def validation_finished(self, run: RunInfo, step: int, metrics: Mapping[str, float]) -> None:
        copied = dict(metrics)
        self._submit(partial(self._send, "validation", step, lambda tracker: tracker.log_metrics(step, copied)))
        if self._options.answers:
            self._submit(partial(self._log_validation_answers, run, step))

    @hookimpl
    def checkpoint_saved(self, step: int, folder: Path) -> None:
        self._submit(lambda: self._running().log_checkpoint(step, folder.resolve()))

    @hookimpl
    def run_finished(self, status: RunStatus) -> None:
        calls = self._calls
        if calls is None:
            return
        in_time = calls.close(partial(self._finish, status), timeout_s=self._options.flush_s)
        if not in_time:
            self._warn(
                f"had not taken everything {self._options.flush_s:g} s after the end of the run; the rest is lost"
            )
        elif calls.dropped and not calls.failed:
            self._warn(f"was too slow for {calls.dropped} events, which it has not got")

    def _start(self, run: RunInfo) -> None:
        run_id, resumed = run_identity(run, self._name)
        tracker = self._make()
        self._tracker = tracker
        tracker.start(run, run_id, resumed=resumed)
        if tracker.settle_s is not None:
            self._sent = SentSteps(run, self._name, resumed=resumed, settle_s=tracker.settle_s)

    def _finish(self, status: RunStatus) -> None:
        self._running().finish(status)
        if self._sent is not None:
            self._sent.settle()
        self._running().release()

    def _running(self) -> Tracker:
        assert self._tracker is not None, "run_started comes first"
        return self._tracker

    def _log_validation_answers(self, run: RunInfo, step: int) -> None:
        table = validation_table(run, step, rows=self._options.answers)
        if table is not None:
            self._send(table.title, step, lambda tracker: tracker.log_answers(table))

    def _send(self, kind: str, step: int, call: Callable[[Tracker], None]) -> None:
        """Unless an earlier part of the run has sent that step."""
        tracker = self._running()
        if self._sent is None:
            call(tracker)
        elif not self._sent.has(kind, step):
            call(tracker)
            self._sent.note(kind, step)

    def _submit(self, call: Callable[[], None], *, again: bool = True) -> None:
        assert self._calls is not None, "run_started comes first"
        if not self._calls.submit(call, again=again) and self._calls.dropped == 1:
            self._warn(
                f"is so slow that {self._options.queue} events wait for it (run.hook_options.{self._name}.queue); "
                "what comes now is left out"
            )

    def _give_up(self, error: BaseException) -> None:
        self._warn(f"is switched off for this run: {describe_error(error)}")
        if self._tracker is not None:
            self._tracker.release()

    def _warn(self, text: str) -> None:
        # The console shows it: it hears of a run's end after the hooks that were named, and takes messages until then.
        LOGGER.warning("tracker '%s' %s", self._name, text)


def tensorboard(options: TensorBoardOptions) -> TrackerHook:
    def make() -> Tracker:
        from rlkit_trackers.tensorboard_tracker import TensorBoardTracker

        return TensorBoardTracker(options)

    return TrackerHook("tensorboard", make, options)


def wandb(options: WandbOptions) -> TrackerHook:
    def make() -> Tracker:
        from rlkit_trackers.wandb_tracker import WandbTracker

        return WandbTracker(options)

    return TrackerHook("wandb", make, options)


def mlflow(options: MLflowOptions) -> TrackerHook:
    def make() -> Tracker:
        from rlkit_trackers.mlflow_tracker import MLflowTracker

        return MLflowTracker(options)

    return TrackerHook("mlflow", make, options)


def trackio(options: TrackioOptions) -> TrackerHook:
    def make() -> Tracker:
        from rlkit_trackers.trackio_tracker import TrackioTracker

        return TrackioTracker(options)

    return TrackerHook("trackio", make, options)
