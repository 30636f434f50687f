"""The process that forks workers and buries them.

It has one thread, runs no foreign code but the import of installed plugins' modules, and lives as long as the trainer.
Workers adopt the orphans of their own children; when a worker dies they pass on to this process. So every child that is
no living worker has been left behind by a dead one, and is killed.
"""

from __future__ import annotations

import contextlib
import gc
import os
import pickle
import select
import signal
import socket
import sys
from collections.abc import Sequence

from rlkit.plugin import PluginKind
from rlkit.plugin.loader import load_plugin
from rlkit.rewards.workers.messages import Exited, Kill, Spawn
from rlkit.rewards.workers.processes import adopt_orphans, children_of
from rlkit.rewards.workers.worker import run_worker

LARGEST_MESSAGE = 1 << 20
LOOK_EVERY_S = 1.0
"""Whether the trainer still lives: its end closes the control socket, unless a child of its has that too."""


def main(descriptor: int, trainer: int) -> None:
    """Serve process `trainer` over the socket `descriptor` until one of them ends."""
    control = socket.socket(fileno=descriptor)
    adopt_orphans()
    woken, waker = socket.socketpair()
    for end in (woken, waker):
        end.setblocking(False)
    signal.set_wakeup_fd(waker.fileno(), warn_on_full_buffer=False)
    signal.signal(signal.SIGCHLD, lambda number, frame: None)
    nursery = Nursery(control, keep_shut=(woken, waker))
    try:
        while os.getppid() == trainer:
            ready, _, _ = select.select([control, woken], [], [], LOOK_EVERY_S)
            if woken in ready:
                woken.recv(4096)
            if control in ready and not nursery.serve():
                break
            nursery.bury()
    finally:
        nursery.end()


class Nursery:
    """workers: process id -> number of the worker."""

    def __init__(self, control: socket.socket, *, keep_shut: Sequence[socket.socket]) -> None:
        self._control = control
        self._keep_shut = keep_shut
        self._workers: dict[int, int] = {}
        self._preloaded: set[str] = set()

    def serve(self) -> bool:
        """One message of the trainer; False when it has gone."""
        try:
            content, descriptors, _, _ = socket.recv_fds(self._control, LARGEST_MESSAGE, 2)
        except ConnectionError:
            return False
        if not content:
            return False
        match pickle.loads(content):
            case Spawn() as spawn:
                self._spawn(spawn, *descriptors)
            case Kill(worker):
                for process, number in self._workers.items():
                    if number == worker:
                        os.kill(process, signal.SIGKILL)
        return True

    def bury(self) -> None:
        """Reap whoever has ended; tell the trainer of workers, and kill what they left behind."""
        ended: list[tuple[int, int]] = []
        while True:
            try:
                process, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                break
            if process == 0:
                break
            number = self._workers.pop(process, None)
            if number is not None:
                ended.append((number, os.waitstatus_to_exitcode(status)))
        if ended:
            self._kill_strays()
        for number, code in ended:
            self._tell(Exited(number, code))

    def end(self) -> None:
        """Kill everything."""
        self._workers.clear()
        self._kill_strays()

    def _spawn(self, spawn: Spawn, channel: int, progress: int) -> None:
        self._preload(spawn)
        nursery = os.getpid()
        process = os.fork()
        if process == 0:
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            for end in (self._control, *self._keep_shut):
                end.close()
            run_worker(channel, progress, nursery)
        os.close(channel)
        os.close(progress)
        self._workers[process] = spawn.worker

    def _preload(self, spawn: Spawn) -> None:
        """Import the modules of installed plugins once for all workers. Files of users are left to the workers."""
        names = set(spawn.preload) - self._preloaded
        if not names:
            return
        sys.path[:] = spawn.path
        for name in names:
            # Whatever is wrong with it, the worker meets it again, and reports it.
            with contextlib.suppress(Exception):
                load_plugin(PluginKind.REWARD_FUNCTION, name)
        self._preloaded |= names
        # What is there now is shared with all workers; collecting garbage in one of them must not touch it.
        gc.collect()
        gc.freeze()

    def _kill_strays(self) -> None:
        """Children of dead workers, and theirs: each one that is killed hands its own children on to this process."""
        while strays := [child for child in children_of(os.getpid()) if child not in self._workers]:
            for child in strays:
                os.kill(child, signal.SIGKILL)
            for child in strays:
                os.waitpid(child, 0)

    def _tell(self, message: Exited) -> None:
        try:
            self._control.send(pickle.dumps(message))
        except OSError:  # the trainer has gone; the loop ends by itself
            return
