"""The processes that torchrun has started: the first one leads, and the others do as they are told.

leader     runs the whole command; each call is scattered, done here too, and gathered
followers  call --> do it --> result, until the leader says that it is over, and how, or is gone

They find each other first of all, so that a leader that fails at its data, or has nothing to do, leaves nobody waiting.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from rlkit.cluster.followers import MOMENT_S, leave_the_first_word
from rlkit.cluster.parent import end_with_parent
from rlkit.cluster.process_group import keep_to_interface
from rlkit.cluster.worker import TrainingWorker, WorkerDescription, WorkerPlace
from rlkit.cluster.worker_group import WorkerLostError, error_of, fault_of, spoken_call
from rlkit.errors import RLKitError

if TYPE_CHECKING:
    from rlkit.cluster.weight_chunks import WeightChunk

NO_TIMEOUT_S = 365 * 86400.0
"""For how long followers wait for the next call: the leader's reading of data may take hours."""

LOST_EXIT_CODE = 1
"""Of a follower whose leader is gone without a word: a launcher with processes on other machines must see a failure."""


@dataclass(frozen=True)
class _End:
    """The last thing that the leader sends."""

    exit_code: int


class TorchrunGroup:
    """Implements `rlkit.cluster.worker_group.WorkerGroup` in torchrun's first process."""

    def __init__(self, timeout_s: float, *, device: str, call_timeout_s: float = 0.0) -> None:
        """Wait until all processes have found each other. timeout_s: for that, and for the followers' part of each call."""
        self.call_timeout_s = call_timeout_s
        end_with_parent()
        self._channel = _open_channel(timeout_s, patience_s=timeout_s, gpus=device.startswith("cuda"))
        self.size = _number("WORLD_SIZE")
        self._worker = TrainingWorker(0, self.size, own_device=device)
        self._lock = threading.RLock()
        self._is_open = True
        self._followers_listen = True
        self._ended_by: RLKitError | None = None
        self._places: list[WorkerPlace] = []

    def join(self, description: WorkerDescription) -> None:
        """Build the backend on every rank."""
        self._places = self.call("join", description, "", os.environ["MASTER_ADDR"])

    def call(self, method: str, *arguments: Any) -> list[Any]:
        return self.scatter(method, [arguments] * self.size)

    def scatter(self, method: str, arguments: Sequence[tuple[Any, ...]]) -> list[Any]:
        return self._on_all(method, arguments)

    def next_chunk(self, name: str) -> WeightChunk | None:
        # Gathered, the piece of rank 0 would be sent from this process to itself.
        _, chunk = self._on_all("next_chunk", [(name,)] * self.size, gathers_own=False)[0]
        return None if chunk is None else replace(chunk, data=chunk.data.copy())

    def share(self, chunk: WeightChunk) -> WeightChunk:
        return replace(chunk, data=chunk.data.copy())

    def _on_all(self, method: str, arguments: Sequence[tuple[Any, ...]], *, gathers_own: bool = True) -> list[Any]:
        """What each rank returned; gathers_own False: what this process did comes as it is, not as a copy."""
        import torch.distributed

        with self._lock:
            if self._ended_by is not None:
                raise self._ended_by  # the followers are at another call, or gone: one more would wait for ever
            if not self._is_open:
                raise WorkerLostError("torchrun's processes have been told to end")
            self._followers_listen = False
            try:
                calls = [(method, own) for own in arguments]
                torch.distributed.scatter_object_list([None], calls, src=0, group=self._channel)
                results: list[Any] = [None] * self.size
                found = getattr(self._worker, method)(*arguments[0])
                torch.distributed.gather_object(found if gathers_own else None, results, dst=0, group=self._channel)
            except RLKitError as error:
                self._ended_by = error
                raise
            except Exception as error:
                fault = fault_of(error, _name_of(0), spoken_call(method, arguments[0]))
                self._ended_by = error_of(fault)
                raise self._ended_by from error
            self._followers_listen = True
            return results if gathers_own else [found, *results[1:]]

    def lose(self, rank: int, cause: str) -> Exception:
        with self._lock:
            if self._ended_by is None:
                place = f" ({self._places[rank]})" if self._places else ""
                self._ended_by = WorkerLostError(f"rank {rank}{place} {cause}")
            return self._ended_by

    def close(self) -> None:
        """Send the followers home; with the exit code of the error that is being handled, if any."""
        import torch.distributed

        # Another thread may be at a call that never ends.
        if not self._lock.acquire(timeout=MOMENT_S):
            return
        try:
            if not self._is_open:
                return
            self._is_open = False
            # After a call that failed a follower may be gone, or stuck: it ends when this process does.
            if self._followers_listen:
                end = _End(_exit_code_of(sys.exc_info()[1]))
                with contextlib.suppress(RuntimeError):  # one that is lost already must not hide what is being handled
                    torch.distributed.scatter_object_list([None], [end] * self.size, src=0, group=self._channel)
                if not end.exit_code:
                    self._worker.close()
        finally:
            self._lock.release()


def follow(timeout_s: float, *, device: str) -> None:
    """Do what the leader says until it is done. What fails here is one line on stderr and the end of this process."""
    import torch.distributed

    end_with_parent()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the leader decides when to stop
    channel = _open_channel(timeout_s, patience_s=NO_TIMEOUT_S, gpus=device.startswith("cuda"))
    # Not before: a leader that does not come is no reason to hold up torchrun.
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    rank = _number("RANK")
    own = f"cuda:{_number('LOCAL_RANK')}" if device.startswith("cuda") else device
    worker = TrainingWorker(rank, _number("WORLD_SIZE"), own_device=own)
    while True:
        received = _receive(channel)
        if isinstance(received, _End):
            break
        method, arguments = received
        try:
            found = getattr(worker, method)(*arguments)
        except Exception as error:
            leave_the_first_word()
            failure = error_of(fault_of(error, _name_of(rank), spoken_call(method, arguments)))
            print(f"error: {failure}", file=sys.stderr, flush=True)
            os._exit(failure.exit_code)
        with contextlib.suppress(RuntimeError):
            torch.distributed.gather_object(found, None, dst=0, group=channel)
    if received.exit_code:
        _receive(channel, exit_code=received.exit_code)
    worker.close()


def _receive(channel: Any, *, exit_code: int = LOST_EXIT_CODE) -> Any:
    """What the leader sends next. Ends this process once the leader's has ended: torchrun must see that one fail first."""
    import torch.distributed

    received: list[Any] = [None]
    try:
        torch.distributed.scatter_object_list(received, src=0, group=channel)
    except RuntimeError:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        time.sleep(MOMENT_S)
        os._exit(exit_code)
    return received[0]


def _open_channel(timeout_s: float, *, patience_s: float, gpus: bool) -> Any:
    """The default process group, and a group for the calls beside it, on which this process waits for `patience_s` at most.

    Raises `WorkerLostError` when the processes do not find each other.
    """
    import torch
    import torch.distributed

    if gpus:
        torch.cuda.set_device(_number("LOCAL_RANK"))
    keep_to_interface(os.environ["MASTER_ADDR"])
    backend, limit = "cpu:gloo,cuda:nccl" if gpus else "gloo", timedelta(seconds=timeout_s)
    try:
        torch.distributed.init_process_group(backend, timeout=limit)
        return torch.distributed.new_group(backend="gloo", timeout=timedelta(seconds=patience_s))
    except RuntimeError as error:
        raise WorkerLostError(f"{_name_of(_number('RANK'))} did not find torchrun's others: {error}"[:600]) from error


def _name_of(rank: int) -> str:
    return f"rank {rank} (process {os.getpid()})"


def _exit_code_of(error: BaseException | None) -> int:
    return 0 if error is None else getattr(error, "exit_code", 1)


def _number(name: str) -> int:
    return int(os.environ[name])
