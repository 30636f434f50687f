"""What a tracker must be able to take. Everything is called on one thread, in order, `start` first."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from rlkit.plugin.hookspecs import RunInfo, RunStatus

COLUMNS = ("question", "answer", "reference", "score", "finish_reason")


@dataclass(frozen=True)
class AnswerTable:
    """Some answers of a step; each row has what COLUMNS name. title: `answers/training` or `answers/validation`."""

    title: str
    step: int
    rows: tuple[tuple[str, str, str, float | None, str], ...]


class Tracker(Protocol):
    """One run in one tracker. Whatever `start` raises, or another method several times, ends the tracking, never the run.

    settle_s  seconds after which what was sent is safe from the end of this process: steps that a resumed run does again are
              not sent again. None: what comes for a step takes the place of what is there, and everything is sent
    """

    settle_s: float | None

    def start(self, run: RunInfo, run_id: str, *, resumed: bool) -> None:
        """Import the tracker's package and open the run. run_id: the same for every part of a run; resumed: it has begun before."""

    def log_metrics(self, step: int, metrics: Mapping[str, float]) -> None:
        """Values may be NaN or infinite."""

    def log_answers(self, table: AnswerTable) -> None: ...

    def log_checkpoint(self, step: int, folder: Path) -> None:
        """Only where it is."""

    def finish(self, status: RunStatus) -> None: ...

    def release(self) -> None:
        """Put back what was changed in this process. Called last, after a failure too, even one of `start`."""
