"""The trainer's side of the nursery: one for each process that has reward workers."""

from __future__ import annotations

import atexit
import contextlib
import os
import pickle
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from pathlib import Path

import rlkit
from rlkit.plugin.references import is_reference
from rlkit.rewards.workers.channel import SEND_TIMEOUT_S, Channel
from rlkit.rewards.workers.messages import Exited, FunctionSource, Kill, Spawn
from rlkit.rewards.workers.nursery_process import LARGEST_MESSAGE
from rlkit.rewards.workers.progress import Progress

LOST = None
"""Exit status of a worker whose nursery has ended, and it with it."""

OnExit = Callable[[int, int | None], None]
"""Is told the number of a worker and its exit status, or `LOST`, in a thread of the nursery's."""

_START = "import sys; sys.path[:0] = [sys.argv[1]]; from rlkit.rewards.workers.nursery_process import main; "


class Nursery:
    """Starts the nursery process at once; it ends when this object is closed, and with this process."""

    def __init__(self) -> None:
        self.owner = os.getpid()
        self._lock = threading.Lock()
        self._next = 0
        self._listeners: dict[int, OnExit] = {}
        # Packets: one is one message, and keeps the file descriptors that travel with it.
        self._control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._process = _start_process(theirs)
        theirs.close()
        self.is_alive = True
        threading.Thread(target=self._listen, name="reward nursery", daemon=True).start()

    def spawn(self, functions: Sequence[FunctionSource], on_exit: OnExit) -> tuple[int, Channel, Progress]:
        """A new worker: its number, the channel to it, and what it is doing. It waits for its `Surroundings`.

        Raises `OSError` when the nursery has ended.
        """
        preload = tuple(function.name for function in functions if not is_reference(function.name))
        ours, theirs = socket.socketpair()
        ours.settimeout(SEND_TIMEOUT_S)
        progress, descriptor = Progress.create()
        with self._lock:
            number, self._next = self._next, self._next + 1
            self._listeners[number] = on_exit
        try:
            message = pickle.dumps(Spawn(number, tuple(sys.path), preload))
            with self._lock:
                socket.send_fds(self._control, [message], [theirs.fileno(), descriptor])
        except OSError:
            self._listeners.pop(number, None)
            ours.close()
            progress.close()
            raise
        finally:
            theirs.close()
            os.close(descriptor)
        return number, Channel(ours), progress

    def kill(self, worker: int) -> None:
        """End a worker and its children; `on_exit` follows."""
        with self._lock, contextlib.suppress(OSError):
            self._control.send(pickle.dumps(Kill(worker)))

    def close(self) -> None:
        """End it and all workers, and wait for that."""
        with contextlib.suppress(OSError):
            self._control.shutdown(socket.SHUT_RDWR)
        self._process.wait()

    def _listen(self) -> None:
        while True:
            try:
                content = self._control.recv(LARGEST_MESSAGE)
            except OSError:
                content = b""
            if not content:
                break
            exited: Exited = pickle.loads(content)
            self._tell(exited.worker, exited.status)
        self.is_alive = False
        for worker in list(self._listeners):
            self._tell(worker, LOST)

    def _tell(self, worker: int, status: int | None) -> None:
        with self._lock:
            on_exit = self._listeners.pop(worker, None)
        if on_exit is not None:
            on_exit(worker, status)


_nursery: Nursery | None = None
_starting = threading.Lock()


def nursery_of_this_process() -> Nursery:
    """The one nursery, started when it is first asked for, or anew when it has ended."""
    global _nursery
    with _starting:
        # After a fork the parent's is of no use here.
        if _nursery is None or not _nursery.is_alive or _nursery.owner != os.getpid():
            _nursery = Nursery()
            atexit.register(_nursery.close)
        return _nursery


def _start_process(control: socket.socket) -> subprocess.Popen[bytes]:
    # -P: a file in the working folder must not stand in for a module of the standard library.
    descriptor = control.fileno()
    code = f"{_START}main({descriptor}, {os.getpid()})"
    return subprocess.Popen(
        [sys.executable, "-P", "-c", code, str(Path(rlkit.__file__).parent.parent)],
        stdin=subprocess.DEVNULL,
        # What reward functions print must not get into the output of a command.
        stdout=2,
        pass_fds=[descriptor],
        start_new_session=True,  # Ctrl-C in the terminal is the trainer's to handle
        # The hash seed: in which order a function walks over a set of strings must not differ from one run to the next.
        env={"OMP_NUM_THREADS": "1", "PYTHONHASHSEED": "0", **os.environ},
    )
