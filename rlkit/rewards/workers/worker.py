"""A worker process: judges what it is given, and says so."""

from __future__ import annotations

import io
import os
import resource
import signal
import socket
import sys
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import NoReturn

from rlkit.errors import ConfigError, RLKitError
from rlkit.plugin.references import describe_error
from rlkit.rewards.answer_clock import answer_clock
from rlkit.rewards.content import seed_of_answer
from rlkit.rewards.resolve import load_function
from rlkit.rewards.seeding import GeneratorSeeder
from rlkit.rewards.styles import Style
from rlkit.rewards.verdict import Failure, Verdict, failure_of, read_verdict
from rlkit.rewards.workers.channel import Channel
from rlkit.rewards.workers.messages import CallDone, Loaded, Refused, Surroundings, Task, TaskDone, Verdicts
from rlkit.rewards.workers.processes import adopt_orphans, children_of, die_with
from rlkit.rewards.workers.progress import LOADING, Progress
from rlkit.types.reward import Sample

EXIT_MEMORY = 86
"""Exit status of a worker that had no memory left to say so."""
FLUSH_AFTER_S = 0.01
"""Verdicts are sent together for so long: quick ones cost hardly any messages, slow ones do not wait."""
MOST_CHILDREN = 8
"""Processes that a worker may have after an answer (a function may keep a helper); with more it is replaced."""


def run_worker(channel: int, progress: int, nursery: int) -> NoReturn:
    """The whole life of a freshly forked process; it never returns into the nursery's code."""
    code = 1
    try:
        os.setsid()  # a function that signals its process group reaches its own worker only
        die_with(nursery)
        adopt_orphans()
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        connection = Channel(socket.socket(fileno=channel))
        surroundings: Surroundings = connection.receive()
        _settle(surroundings)
        Worker(surroundings, connection, Progress(progress)).serve()
        code = 0
    except MemoryError:
        code = EXIT_MEMORY
    finally:
        os._exit(code)


class Worker:
    """Serves one channel until it is closed."""

    def __init__(self, surroundings: Surroundings, channel: Channel, progress: Progress) -> None:
        self._surroundings = surroundings
        self._channel = channel
        self._progress = progress
        self._generators = GeneratorSeeder()
        self._process = os.getpid()
        self._functions: dict[int, Style] = {}
        self._targets: list[object] = []
        self._loaded_bytes = 0
        self._is_worn_out = False

    def serve(self) -> None:
        self._generators.install()
        while True:
            try:
                task: Task = self._channel.receive()
            except (EOFError, ConnectionError):
                return self._close_functions()
            style = self._load(task.function)
            if style is None:
                continue
            if task.calls:
                self._work(style, task)
            else:
                self._channel.send(Loaded())

    def _work(self, style: Style, task: Task) -> None:
        waiting: list[CallDone] = []
        flushed = time.monotonic()
        name = self._surroundings.functions[task.function].name
        for serial, samples in enumerate(task.calls, task.first):
            self._generators.seed(seed_of_answer(self._surroundings.seed, name, samples[0]))
            self._progress.begin(serial)
            answer_clock.measured_by(partial(self._progress.begin, serial))
            started = time.monotonic()
            try:
                verdicts = self._judge(style, samples)
            except ConfigError as error:
                self._progress.idle()
                self._channel.send(Refused(f"reward function {name!r}: {error}", is_config=True))
                return
            now = time.monotonic()
            self._progress.idle()
            if os.getpid() != self._process:  # the function forked, and this is the child coming back
                os._exit(0)
            waiting.append(CallDone(verdicts, now - started))
            if now - flushed > FLUSH_AFTER_S or self._is_worn_out:
                self._channel.send(Verdicts(tuple(waiting)))
                waiting.clear()
                flushed = now
                if self._is_worn_out or self._has_grown_too_big():
                    break
        if waiting:
            self._channel.send(Verdicts(tuple(waiting)))
        self._channel.send(TaskDone(self._is_worn_out or self._has_grown_too_big()))

    def _judge(self, style: Style, samples: Sequence[Sample]) -> tuple[Verdict, ...]:
        try:
            verdicts = tuple(self._finish(read_verdict(raw)) for raw in style(samples))
        except ConfigError:
            raise
        # SystemExit too: foreign code that calls sys.exit() has failed, and must not end its worker in silence.
        except BaseException as error:
            verdicts = (self._finish(failure_of(error)),) * len(samples)
        return verdicts

    def _finish(self, verdict: Verdict) -> Verdict:
        if isinstance(verdict, Failure) and verdict.kind == "memory":
            # What filled the memory may still be held: the worker only has to live on until it has said so.
            _limit_memory(0)
            self._is_worn_out = True
            limit = self._surroundings.memory_bytes >> 20
            return Failure(f"out of memory (reward.memory_mib = {limit}): {verdict.reason}", "memory", verdict.trace)
        return verdict

    def _load(self, number: int) -> Style | None:
        if number in self._functions:
            return self._functions[number]
        self._progress.begin(LOADING)
        source = self._surroundings.functions[number]
        self._generators.seed(self._surroundings.seed)  # whatever is drawn while the function is made
        try:
            target, style = load_function(source.name, source.options)
        except BaseException as error:
            reason = str(error) if isinstance(error, RLKitError) else describe_error(error)
            self._channel.send(
                Refused(f"reward function {source.name!r} cannot be loaded in a worker: {reason}", is_config=False)
            )
            self._progress.idle()
            return None
        self._progress.idle()
        self._functions[number] = style
        self._targets.append(target)
        self._loaded_bytes = _data_bytes()
        if self._surroundings.memory_bytes:
            _limit_memory(self._loaded_bytes + self._surroundings.memory_bytes)
        return style

    def _has_grown_too_big(self) -> bool:
        """Whether a leak, of memory or of processes, is better ended by a new worker before it does harm."""
        room = self._surroundings.memory_bytes
        if room and _data_bytes() - self._loaded_bytes > room // 2:
            return True
        return _has_children() and len(children_of(self._process)) > MOST_CHILDREN

    def _close_functions(self) -> None:
        for target in self._targets:
            close = getattr(target, "close", None)
            if callable(close):
                close()


def _settle(surroundings: Surroundings) -> None:
    os.environ.clear()
    os.environ.update(surroundings.environment)
    sys.path[:] = surroundings.path
    os.chdir(surroundings.folder)
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    # A worker may end at any time, and what was printed by then is to be seen.
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(line_buffering=True)


def _limit_memory(limit: int) -> None:
    """Of private writable memory, in bytes, for this process and each of its children; 0 lifts it."""
    _, highest = resource.getrlimit(resource.RLIMIT_DATA)
    resource.setrlimit(resource.RLIMIT_DATA, (limit or highest, highest))


def _data_bytes() -> int:
    """What counts towards RLIMIT_DATA."""
    return int(Path("/proc/self/statm").read_bytes().split()[5]) * resource.getpagesize()


def _has_children() -> bool:
    """Without reaping any of them: the function may want to do that."""
    try:
        os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return False
    return True
