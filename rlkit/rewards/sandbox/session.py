"""One running sandbox: started, talked to, watched, and ended with everything in it."""

from __future__ import annotations

import json
import os
import secrets
import select
import signal
import subprocess
import tempfile
import time
from contextlib import suppress
from dataclasses import asdict, dataclass
from typing import IO, Any

from rlkit.errors import SandboxError
from rlkit.rewards.sandbox.bubblewrap_command import bubblewrap_command, sandbox_environment
from rlkit.rewards.sandbox.execution import Limits, Outcome, Task, outcome_of
from rlkit.rewards.sandbox.interpreter import Interpreter
from rlkit.rewards.sandbox.memory_watch import held_bytes
from rlkit.rewards.sandbox.spare_user import spare_user_id
from rlkit.rewards.sandbox.syscall_filter import syscall_filter

START_S = 60.0
"""A sandbox that is not up by then will not be: starting takes 0.05 s on an idle machine."""
GRACE_S = 5.0
"""Beyond a task's own limit: the runner ends the program in time by itself, unless the program has stopped or ended it."""
GLANCE_S = 0.05
"""Time between two looks at the memory."""
OVERHEAD_MIB = 96
"""Memory of the runner and the judge, which are no part of the program."""
MAX_LINE_BYTES = 64 * 2**20
MIB = 2**20


class SessionEndedError(Exception):
    """The sandbox came down while it performed a task; `outcome` is that task's."""

    def __init__(self, outcome: Outcome) -> None:
        super().__init__(outcome.detail)
        self.outcome = outcome


@dataclass(frozen=True)
class SessionSetup:
    """What all sessions of a sandbox have in common."""

    bwrap: str
    interpreter: Interpreter
    limits: Limits
    visible: tuple[str, ...]
    as_root: bool
    machine: str


class Session:
    """One program in one sandbox. Raises `SandboxError` when it does not start: never the program's doing."""

    def __init__(self, setup: SessionSetup, source: str) -> None:
        self._limits = setup.limits
        self._nonce = secrets.token_hex(16).encode()
        self._buffer = bytearray()
        self._init: int | None = None
        self._init_pid = 0
        self._job_fd, self._result_fd = -1, -1
        self._complaints: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 - closed by stop
        try:
            self._process = self._start(setup)
            self._begin(setup, source)
        except BaseException:
            self.stop()
            raise

    def perform(self, task: Task, *, most_s: float) -> Outcome:
        """One task's outcome, after at most `most_s` seconds. Raises `SessionEndedError` when the sandbox came down, or had to be."""
        started = time.monotonic()
        ends = started + most_s + GRACE_S
        try:
            message = {**task.message(), "wall_s": min(self._limits.wall_s, most_s), "most_s": most_s}
            self._send(message, ends)
            return outcome_of(self._receive(ends))
        except TimeoutError:
            outcome = Outcome("timeout", wall_s=time.monotonic() - started)
        except MemoryError:
            outcome = Outcome("memory", detail=f"more than {self._limits.memory_mib} MiB")
        except (EOFError, BrokenPipeError, ValueError):
            outcome = Outcome("killed", detail="the program brought the sandbox down")
        raise SessionEndedError(outcome)

    def stop(self) -> None:
        """End everything inside and wait until it is gone: the first process of a namespace takes all others with it."""
        if self._init is not None:
            with suppress(ProcessLookupError):
                signal.pidfd_send_signal(self._init, signal.SIGKILL)
            _readable(self._init, 10.0)
        process = getattr(self, "_process", None)
        if process is not None:
            # Bubblewrap ends by itself then, and takes its dead child along; killed, it would leave that to the machine.
            if self._init is not None:
                with suppress(subprocess.TimeoutExpired):
                    process.wait(10.0)
            process.kill()
            process.wait()
        for descriptor in (self._init, self._job_fd, self._result_fd):
            if descriptor is not None and descriptor >= 0:
                os.close(descriptor)
        self._init, self._job_fd, self._result_fd = None, -1, -1
        self._complaints.close()

    def _start(self, setup: SessionSetup) -> subprocess.Popen[bytes]:
        job, self._job_fd = os.pipe()
        self._result_fd, result = os.pipe()
        info_read, info = os.pipe()
        filter_read, filter_write = os.pipe()
        theirs = {"job": job, "result": result, "info": info, "seccomp": filter_read}
        try:
            os.write(filter_write, syscall_filter(setup.machine))
            os.close(filter_write)
            command = bubblewrap_command(
                setup.bwrap,
                setup.interpreter,
                setup.limits,
                as_root=setup.as_root,
                visible=setup.visible,
                descriptors=theirs,
            )
            process = subprocess.Popen(
                command,
                env=sandbox_environment(),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=self._complaints,
                pass_fds=tuple(theirs.values()),
                cwd="/",
            )
            self._process = process
        finally:
            for descriptor in theirs.values():
                os.close(descriptor)
        self._find_init(info_read)
        return process

    def _find_init(self, info_read: int) -> None:
        """The first process of the namespace, which bubblewrap names in its information."""
        with os.fdopen(info_read, "rb") as information:
            told = information.read() if _readable(info_read, START_S) else b""
        with suppress(ValueError, KeyError, ProcessLookupError):
            self._init_pid = int(json.loads(told)["child-pid"])
            self._init = os.pidfd_open(self._init_pid)

    def _begin(self, setup: SessionSetup, source: str) -> None:
        ends = time.monotonic() + START_S
        job = {
            "nonce": self._nonce.decode(),
            "source": source,
            "uid": spare_user_id() if setup.as_root else 0,
            "limits": asdict(setup.limits),
            "interpreter": setup.interpreter.command,
        }
        for descriptor in (self._job_fd, self._result_fd):
            os.set_blocking(descriptor, False)
        try:
            self._send(job, ends)
            ready = self._receive(ends)
        except (EOFError, BrokenPipeError, TimeoutError, ValueError, MemoryError) as error:
            self._process.kill()
            self._process.wait()
            raise SandboxError(f"the sandbox did not start: {self._complaint() or type(error).__name__}") from None
        if ready.get("status") != "ready":
            raise SandboxError(f"the sandbox did not start: it said {ready!r}")

    def _complaint(self) -> str:
        self._complaints.seek(0)
        text = self._complaints.read(65536).decode("utf-8", "replace").strip()
        return text.rpartition("\n")[2][:300]

    def _send(self, message: dict[str, Any], ends: float) -> None:
        data = memoryview(json.dumps(message).encode() + b"\n")
        while data:
            if not _writable(self._job_fd, max(0.0, ends - time.monotonic())):
                raise TimeoutError
            data = data[os.write(self._job_fd, data[: select.PIPE_BUF]) :]

    def _receive(self, ends: float) -> dict[str, Any]:
        """The next line that carries the nonce. Raises `TimeoutError`, `EOFError`, `MemoryError`, `ValueError`."""
        searched = 0
        while (end := self._buffer.find(b"\n", searched)) < 0:
            searched = len(self._buffer)
            if searched > MAX_LINE_BYTES:
                raise ValueError("a line without end")
            left = ends - time.monotonic()
            if left <= 0:
                raise TimeoutError
            if _readable(self._result_fd, min(left, GLANCE_S)):
                received = os.read(self._result_fd, 2**20)
                if not received:
                    raise EOFError
                self._buffer += received
            elif self._init_pid and held_bytes(self._init_pid) > (self._limits.memory_mib + OVERHEAD_MIB) * MIB:
                raise MemoryError
        line = bytes(self._buffer[:end])
        del self._buffer[: end + 1]
        if not line.startswith(self._nonce):
            raise ValueError("a line that is not the runner's")
        message = json.loads(line[len(self._nonce) :])
        if not isinstance(message, dict):
            raise ValueError("a line that is no message")
        return message


def _readable(descriptor: int, seconds: float) -> bool:
    return _is_ready(descriptor, select.POLLIN, seconds)


def _writable(descriptor: int, seconds: float) -> bool:
    return _is_ready(descriptor, select.POLLOUT, seconds)


def _is_ready(descriptor: int, event: int, seconds: float) -> bool:
    poll = select.poll()
    poll.register(descriptor, event)
    return bool(poll.poll(seconds * 1000))
