"""The pool by itself, with real workers."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from rlkit.rewards.jobs import Job, Patience
from rlkit.rewards.verdict import Failure, Verdict
from rlkit.rewards.workers.messages import FunctionSource
from rlkit.rewards.workers.pool import WorkerPool
from rlkit.types import Prompt, Sample

BROKEN = Path(__file__).with_name("broken_rewards.py")


@dataclass
class Heard:
    """Implements `Ticket`."""

    verdicts: list[Verdict] = field(default_factory=list)
    error: Exception | None = None
    something: threading.Event = field(default_factory=threading.Event)

    @property
    def is_cancelled(self) -> bool:
        return self.error is not None

    def deliver(self, job: Job, verdicts: Sequence[Verdict], seconds: float | None) -> None:
        self.verdicts += verdicts
        self.something.set()

    def stop(self, error: Exception) -> None:
        self.error = error
        self.something.set()


def test_a_worker_that_could_not_load_one_function_keeps_the_time_limit_of_another() -> None:
    functions = [FunctionSource(f"{BROKEN}:{name}", {}) for name in ("absent", "score")]
    pool = WorkerPool(functions, workers=1, patience=Patience(timeout_s=1.5), memory_bytes=0, seed=0)
    try:
        refused, hangs = Heard(), Heard()
        sample = Sample(Prompt(0, text="q"), "hang")
        pool.submit([Job(0, (sample,), (0,), refused)])
        assert refused.something.wait(60)
        assert "cannot be loaded in a worker" in str(refused.error)
        pool.submit([Job(1, (sample,), (0,), hangs)])
        assert hangs.something.wait(60)
    finally:
        pool.close()
    (verdict,) = hangs.verdicts
    assert isinstance(verdict, Failure)
    assert verdict.kind == "timeout"
