"""Calling foreign code that may never come back."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from rlkit.errors import ConfigError
from rlkit.rewards.verdict import Failure, failure_of
from rlkit.types.reward import Sample


@dataclass
class _Call:
    """One running call; the thread fills it, the caller reads it once the call is done or the time is up."""

    verdicts: list[object] = field(default_factory=list)
    finished: threading.Event = field(default_factory=threading.Event)
    error: BaseException | None = None


def call_with_deadline(
    function: Callable[[Sequence[Sample]], Iterator[object]], samples: Sequence[Sample], *, timeout_s: float, name: str
) -> tuple[list[object], threading.Thread | None]:
    """One raw verdict or `Failure` for each sample, after at most `timeout_s` seconds.

    The call runs in a daemon thread. When the time is up the thread is left behind (it cannot be killed, and does not
    keep the process alive) and returned; verdicts that it had given by then are kept. A function that holds the
    interpreter's lock for long, such as one endless regular expression, delays the deadline itself.
    """
    call = _Call()
    thread = threading.Thread(target=_run, args=(function, samples, call), name=f"reward-{name}", daemon=True)
    started = time.monotonic()
    thread.start()
    in_time = call.finished.wait(timeout_s)
    # A copy: the thread may go on appending after it has been given up.
    verdicts = list(call.verdicts)[: len(samples)]
    missing = len(samples) - len(verdicts)
    if not in_time:
        waited = time.monotonic() - started
        late = Failure(f"no verdict within {timeout_s:g} s (waited {waited:.1f} s; the thread is left behind)")
        return verdicts + [late] * missing, thread
    if isinstance(call.error, ConfigError):
        raise call.error
    if call.error is not None:
        return verdicts + [failure_of(call.error)] * missing, None
    return verdicts, None


def _run(function: Callable[[Sequence[Sample]], Iterator[object]], samples: Sequence[Sample], call: _Call) -> None:
    try:
        for verdict in function(samples):
            call.verdicts.append(verdict)
    # SystemExit too: foreign code that calls sys.exit() has failed, and must not end its thread in silence.
    except BaseException as error:
        call.error = error
    finally:
        call.finished.set()
