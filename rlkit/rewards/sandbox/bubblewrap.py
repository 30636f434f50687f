"""A sandbox of Linux namespaces on this machine, made by bubblewrap.

here (compares, decides)  -- job, tasks -->  bubblewrap > runner > program
                          <-- outcomes ----
"""

from __future__ import annotations

import os
import platform
import shutil
import time
from collections.abc import Generator, Iterable, Sequence
from pathlib import Path

from rlkit.errors import SandboxError, TransientRewardError
from rlkit.rewards.answer_clock import answer_clock
from rlkit.rewards.sandbox.availability import require_sandbox
from rlkit.rewards.sandbox.execution import Limits, Outcome, Sandbox, Task
from rlkit.rewards.sandbox.interpreter import find_interpreter
from rlkit.rewards.sandbox.session import Session, SessionEndedError, SessionSetup
from rlkit.rewards.sandbox.turns import turn


class BubblewrapSandbox(Sandbox):
    """Programs see a read-only Python, a private /tmp and nothing else: no network, no files, no environment of ours.

    python: the interpreter that programs run with, and with it its packages; "" is the running one without packages.
    visible: further folders that programs may read. Raises `SandboxError` where bubblewrap does not work, with what to
    do about it: nothing is ever run without a sandbox.
    """

    def __init__(self, limits: Limits | None = None, *, python: str = "", visible: Sequence[str] = ()) -> None:
        self.limits = limits or Limits()
        require_sandbox()
        for folder in visible:
            if not Path(folder).is_absolute() or not Path(folder).exists():
                raise SandboxError(f"the sandbox cannot show {folder!r}: it is no absolute path, or not there")
        self._setup = SessionSetup(
            shutil.which("bwrap") or "bwrap",
            find_interpreter(python),
            self.limits,
            tuple(visible),
            as_root=os.geteuid() == 0,
            machine=platform.machine(),
        )

    def run(self, source: str, tasks: Iterable[Task]) -> Generator[Outcome, None, None]:
        """See `Sandbox.run`. All tasks share one start, but no process and no folder; only when one of them brings the sandbox down does the next get another.

        As many programs run at once as there are cores. To be consumed in the thread that began: the sandbox ends with that
        thread.
        """
        with turn():
            yield from self._run(source, tasks)

    def _run(self, source: str, tasks: Iterable[Task]) -> Generator[Outcome, None, None]:
        session: Session | None = None
        started = 0.0
        waited_s = 0.0
        try:
            for task in tasks:
                if not started:
                    session = Session(self._setup, source)
                    answer_clock.restart()
                    started = time.monotonic()
                left = started + self.limits.total_s - time.monotonic()
                outcome = Outcome("timeout", detail="no time left for this task")
                if left > 0:
                    try:
                        session = session or Session(self._setup, source)
                        outcome = session.perform(task, most_s=left)
                    except SessionEndedError as ended:
                        if session is not None:
                            session.stop()
                        session = None
                        outcome = ended.outcome
                waited_s += outcome.waited_s
                self._refuse_guess(outcome, waited_s, time.monotonic() - started)
                yield outcome
        finally:
            if session is not None:
                session.stop()

    def _refuse_guess(self, outcome: Outcome, waited_s: float, elapsed_s: float) -> None:
        """Raises `TransientRewardError` for a program that was out of time because the machine was busy."""
        limits = self.limits
        is_over = outcome.status == "timeout" and elapsed_s >= limits.total_s
        if is_over and waited_s >= elapsed_s / 2 and outcome.cpu_s < limits.cpu_s / 2:
            raise TransientRewardError(
                f"the machine is too busy to judge a program: in {elapsed_s:.1f} s it waited {waited_s:.1f} s for a core, and "
                f"its last test had {outcome.cpu_s:.1f} s of CPU time; give it more time, or the machine less to do"
            )

    def close(self) -> None:
        """Nothing is held between two programs."""
