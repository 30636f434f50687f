"""How a worker or the pool came to its end, in the words that users read."""

from __future__ import annotations

import signal

from rlkit.errors import RewardError
from rlkit.rewards.verdict import Failure
from rlkit.rewards.workers.crew import Doom
from rlkit.rewards.workers.worker import EXIT_MEMORY

LOAD_TIMEOUT_S = 180.0
"""For importing a reward function in a worker; the trainer has done it already."""


def failure_at(doom: Doom | None, status: int | None, timeout_s: float, memory_bytes: int) -> Failure:
    """Of the answer that a worker was at; status: as `os.waitstatus_to_exitcode` gives it."""
    if doom == "timeout":
        return Failure(f"no verdict within {timeout_s:g} s; its worker was killed", "timeout")
    if status == EXIT_MEMORY:
        return Failure(f"out of memory (reward.memory_mib = {memory_bytes >> 20})", "memory")
    return Failure(f"its worker {_described(status)}", "killed")


def why_not_loaded(function: str, doom: Doom | None, status: int | None) -> str:
    """Of a worker that ended while it loaded the function of that name."""
    how = f"took longer than {LOAD_TIMEOUT_S:g} s" if doom == "load" else _described(status)
    return f"reward function {function!r} cannot be loaded in a worker: it {how}"


def broken_off(error: BaseException) -> RewardError:
    """For those who wait for verdicts when the pool itself has failed."""
    if isinstance(error, RewardError):
        return error
    failure = RewardError(f"judging broke off: {type(error).__name__}: {error}")
    failure.__cause__ = error
    return failure


def _described(status: int | None) -> str:
    if status is not None and status < 0:
        return f"was ended by signal {-status} ({_signal_name(-status)})"
    return f"ended itself with exit status {status}"


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:  # of the real-time signals only the first and the last have one
        return signal.strsignal(number) or "without a name"
