"""The run events that hook plugins may listen to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import pluggy

if TYPE_CHECKING:
    from rlkit.types import Reward, Rollouts

hookspec = pluggy.HookspecMarker("rlkit")
hookimpl = pluggy.HookimplMarker("rlkit")
"""Mark a plugin's methods with it: `from rlkit.plugin import hookimpl`."""

RunStatus = Literal["finished", "interrupted", "failed"]


@dataclass(frozen=True)
class RunInfo:
    """What a hook may know of the run it is called from."""

    kind: str  # sft, ppo, generate, eval
    name: str
    folder: Path
    config: Mapping[str, Any]  # the resolved config as plain JSON values
    total_steps: int  # steps when the run is complete
    first_step: int  # steps already done when it (re)started


class RunHooks:
    """Every event, in the order in which a run raises them."""

    @hookspec
    def run_started(self, run: RunInfo) -> None:
        """The run folder exists and everything is assembled; nothing has been computed yet."""

    @hookspec
    def rollouts_ready(
        self, run: RunInfo, step: int, rollouts: Rollouts, rewards: Sequence[Reward], responses: Sequence[str]
    ) -> None:
        """The answers of step `step` (counted from 1), as tokens and as text, and their verdicts, row-aligned. PPO only."""

    @hookspec
    def step_finished(self, run: RunInfo, step: int, metrics: Mapping[str, float]) -> None:
        """Step `step` (counted from 1) is done; `metrics` maps `area/name` to numbers."""

    @hookspec
    def validation_finished(self, run: RunInfo, step: int, metrics: Mapping[str, float]) -> None:
        """A validation after `step` steps (0: before the first) is done."""

    @hookspec
    def checkpoint_saved(self, run: RunInfo, step: int, folder: Path) -> None:
        """A checkpoint is whole and in its place, written while training went on: `step` may be an earlier one.

        Raised once more for the one that a resumed run goes on from.
        """

    @hookspec
    def run_finished(self, run: RunInfo, status: RunStatus) -> None:
        """The last event of every run that started, however it ended."""
