"""The first process of ours in the sandbox: takes tasks from outside, starts the program for each, reports what it did.

    outside  -- job line, then task lines -->  runner  -- starts -->  program (script: stdin, stdout)
             <-- nonce + result lines -------          -- forks --->  judge  -- starts -->  program (serve: calls)

The program runs in processes of its own. It cannot read or write the memory and descriptors of runner and judge, which
are closed to it (see confine.hide_this_process), so it neither learns the nonce nor reaches the line to the outside.
"""

from __future__ import annotations

import binascii
import contextlib
import json
import os
import resource
import select
import signal
import sys
from collections.abc import Callable
from typing import Any

from rlkit.rewards.sandbox.inside import checking, confine
from rlkit.rewards.sandbox.inside.program import DOES_NOT_COMPILE
from rlkit.rewards.sandbox.inside.stopwatch import Stopwatch

JUDGE_OVERHEAD_MIB = 64
"""Memory that the judge may use beyond what the program may."""

GLANCE_S = 0.05
"""Time between two looks around while a program runs."""

PRIVATE_FOLDERS = ("/tmp", "/dev/shm")
"""Where a program can write: empty again for the next one."""


class Runner:
    """One program's tasks, one after the other; everything is cleaned up between two of them."""

    def __init__(self, job: dict[str, Any], *, outside: int = -1) -> None:
        """outside: the descriptor of the line to whoever asks, -1 for none; when that hangs up, this process ends."""
        self.outside = outside
        self.source: str = job["source"]
        self.limits: dict[str, Any] = job["limits"]
        self.interpreter: list[str] = job["interpreter"]
        self.output_bytes = int(self.limits["output_kib"] * 1024)
        self.folders = 0

    def perform(self, task: dict[str, Any]) -> dict[str, Any]:
        watch = Stopwatch(task["wall_s"], most_s=task["most_s"], cpu_s=self.limits["cpu_s"], looks=True)
        try:
            result = self.run(task, watch) if task["kind"] == "run" else self.judge(task, watch)
        finally:
            confine.kill_all_others()
            for folder in PRIVATE_FOLDERS:
                confine.clear_folder(folder)
        return {**result, "wall_s": watch.elapsed(), "waited_s": watch.waited_s, "cpu_s": watch.cpu_s}

    def run(self, task: dict[str, Any], watch: Stopwatch) -> dict[str, Any]:
        """The program as a script, with an input."""
        folder = self._new_folder()
        path = folder + "/solution.py"
        with open(path, "wb") as file:  # noqa: PTH123
            file.write(self.source.encode("utf-8", "surrogatepass"))
        pipes = [os.pipe() for _ in range(3)]
        (in_read, in_write), (out_read, out_write), (err_read, err_write) = pipes
        child = self._start(["script", path], [in_read, out_write, err_write], folder)
        for descriptor in (in_read, out_write, err_write):
            os.close(descriptor)
        streams = Streams(in_write, task["stdin"].encode("utf-8", "surrogatepass"), out_read, err_read)
        why = streams.pump(child, watch, self.output_bytes, meanwhile=lambda: self._look_around(child))
        status, usage = _finish(child)
        streams.close()
        return {
            "status": why or _status_of(status, usage, self.limits["cpu_s"]),
            "exit_code": status,
            "stdout": _text(streams.received[out_read]),
            "stderr": _text(streams.received[err_read]),
        }

    def judge(self, task: dict[str, Any], watch: Stopwatch) -> dict[str, Any]:
        """The program as functions, called by a judge in a process of its own."""
        folder = self._new_folder()
        child, read_fd = confine.in_judge(lambda write_fd: self._in_judge(task, watch.ends, folder, write_fd))
        words = _read_all(read_fd, watch, checking.MAX_REPLY_BYTES * 2, meanwhile=lambda: self._look_around(child))
        os.close(read_fd)
        with contextlib.suppress(ProcessLookupError):
            os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        try:
            result: dict[str, Any] = json.loads(words)
        except ValueError:
            return {"status": "timeout" if watch.is_over() else "killed", "detail": "the judge's process ended"}
        return result

    def _in_judge(self, task: dict[str, Any], deadline: float, folder: str, write_fd: int) -> None:
        memory = int((self.limits["memory_mib"] + JUDGE_OVERHEAD_MIB) * confine.MIB)
        for kind in (resource.RLIMIT_AS, resource.RLIMIT_DATA):
            confine.limit(kind, memory)
        (there_read, here_write), (here_read, there_write) = os.pipe(), os.pipe()
        nothing = os.open("/dev/null", os.O_RDWR)
        program = self._start(["serve", "3", "4"], [nothing, nothing, nothing, there_read, there_write], folder)
        os.close(there_read)
        os.close(there_write)
        line = checking.Line(here_write, here_read, deadline)
        try:
            line.load(self.source)
            result = self._verdict(task, line)
        except checking.DoesNotCompileError as error:
            result = {"status": "syntax", "detail": str(error)}
        except checking.OutOfTimeError:
            result = {"status": "timeout"}
        except checking.ProgramEndedError as error:
            result = {"status": "error", "detail": str(error)}
        except BaseException as error:
            result = {"status": "error", "detail": f"the test failed: {type(error).__name__}: {error}"[:500]}
        _end(program)
        _write_all(write_fd, json.dumps(result).encode())

    def _verdict(self, task: dict[str, Any], line: checking.Line) -> dict[str, Any]:
        if task["kind"] == "check":
            checked = checking.check(task, line)
            return {"status": "ok" if checked["passed"] else "error", "detail": checked["detail"]}
        called = checking.call(task, line)
        if "error" in called:
            return {"status": "error", "detail": called["error"]}
        return {"status": "ok", "value": called["value"]}

    def _look_around(self, child: int) -> None:
        """What the first process of a namespace has to do besides: let the orphans of `child` go, and end when nobody waits."""
        if self.outside < 0:
            return
        confine.reap_all_but(child)
        poll = select.poll()
        poll.register(self.outside, 0)
        if poll.poll(0):
            os._exit(1)

    def _start(self, arguments: list[str], descriptors: list[int], folder: str) -> int:
        limits = confine.limits_of(self.limits)
        return confine.start_program(arguments, descriptors, interpreter=self.interpreter, limits=limits, folder=folder)

    def _new_folder(self) -> str:
        """A fresh folder that the program can write to: nothing of an earlier task lies in it."""
        self.folders += 1
        folder = f"/tmp/{self.folders}-{binascii.hexlify(os.urandom(8)).decode()}"
        os.mkdir(folder, 0o700)  # noqa: PTH102
        return folder


class Streams:
    """What goes into a program and comes out of it."""

    def __init__(self, write_fd: int, data: bytes, out_fd: int, err_fd: int) -> None:
        self.write_fd, self.data = write_fd, data
        self.received = {out_fd: bytearray(), err_fd: bytearray()}
        for descriptor in (write_fd, out_fd, err_fd):
            os.set_blocking(descriptor, False)
        self.open = {out_fd, err_fd}
        self._writing = True
        self._write()

    def pump(self, child: int, watch: Stopwatch, most_bytes: int, *, meanwhile: Callable[[], None]) -> str:
        """Serve the streams until the process ends; "timeout" or "output" when it was not by itself."""
        ends = os.pidfd_open(child)
        try:
            while True:
                meanwhile()
                poll = select.poll()
                poll.register(ends, select.POLLIN)
                for descriptor in self.open:
                    poll.register(descriptor, select.POLLIN)
                if self._writing:
                    poll.register(self.write_fd, select.POLLOUT)
                watch.look()
                if watch.is_over():
                    return "timeout"
                ready = {descriptor for descriptor, _ in poll.poll(min(watch.left_s(), GLANCE_S) * 1000)}
                if self.write_fd in ready:
                    self._write()
                for descriptor in ready & self.open:
                    self._read(descriptor)
                if max(map(len, self.received.values())) > most_bytes:
                    return "output"
                if ends in ready:
                    self._drain(most_bytes)
                    return ""
        finally:
            os.close(ends)

    def close(self) -> None:
        for descriptor in self.received:
            os.close(descriptor)
        self._stop_writing()

    def _write(self) -> None:
        try:
            self.data = self.data[os.write(self.write_fd, self.data[:65536]) :] if self.data else b""
        except BlockingIOError:
            return
        except BrokenPipeError:
            self.data = b""
        if not self.data:
            self._stop_writing()

    def _stop_writing(self) -> None:
        if self._writing:
            self._writing = False
            os.close(self.write_fd)

    def _read(self, descriptor: int) -> bool:
        try:
            received = os.read(descriptor, 65536)
        except BlockingIOError:
            return False
        if not received:
            self.open.discard(descriptor)
        self.received[descriptor] += received
        return bool(received)

    def _drain(self, most_bytes: int) -> None:
        for descriptor in list(self.open):
            while len(self.received[descriptor]) <= most_bytes and self._read(descriptor):
                pass


def _finish(child: int) -> tuple[int, float]:
    """End the process, and say how it ended and the CPU seconds that it took."""
    _end(child)
    _, status, usage = os.wait4(child, 0)
    return confine.exit_status(status), usage.ru_utime + usage.ru_stime


def _end(child: int) -> None:
    """The process, and its group."""
    for end in (os.kill, os.killpg):
        with contextlib.suppress(ProcessLookupError):
            end(child, signal.SIGKILL)


def _status_of(exit_code: int, cpu_s: float, most_cpu_s: float) -> str:
    if exit_code == 0:
        return "ok"
    if exit_code == DOES_NOT_COMPILE:
        return "syntax"
    if exit_code in (-signal.SIGXCPU, -signal.SIGKILL) and cpu_s >= most_cpu_s:
        return "timeout"
    return "error"


def _text(data: bytearray) -> str:
    return bytes(data).decode("utf-8", "replace")


def _read_all(descriptor: int, watch: Stopwatch, most_bytes: int, *, meanwhile: Callable[[], None]) -> bytes:
    received = bytearray()
    poll = select.poll()
    poll.register(descriptor, select.POLLIN)
    while len(received) <= most_bytes and not watch.is_over():
        meanwhile()
        watch.look()
        if not poll.poll(min(watch.left_s(), GLANCE_S) * 1000):
            continue
        more = os.read(descriptor, 65536)
        if not more:
            break
        received += more
    return bytes(received)


def _write_all(descriptor: int, data: bytes) -> None:
    while data:
        data = data[os.write(descriptor, data) :]


def main(job_fd: int, result_fd: int) -> None:
    """First line in: the job. Then a task a line, each answered by one line that begins with the job's nonce."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # without a handler it does not reach a namespace's first process
    for descriptor in (job_fd, result_fd):
        os.set_inheritable(descriptor, False)
    with os.fdopen(job_fd, "r", encoding="utf-8") as lines:
        job = json.loads(lines.readline())
        confine.become(job["uid"])
        confine.hide_this_process()
        nonce = job["nonce"].encode()
        runner = Runner(job, outside=job_fd)
        _write_all(result_fd, nonce + b'{"status": "ready"}\n')
        for line in lines:
            result = runner.perform(json.loads(line))
            _write_all(result_fd, nonce + json.dumps(result).encode() + b"\n")


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
