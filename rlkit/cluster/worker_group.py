"""The ranks that one model is spread over, as the driver sees them, and what becomes of a rank's failure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Protocol

from rlkit.errors import ClusterError, RLKitError
from rlkit.plugin.references import describe_error

if TYPE_CHECKING:
    from rlkit.cluster.weight_chunks import WeightChunk

FaultKind = Literal["died", "memory", "error", "hung", "peer"]
"""died: its process ended; memory: it found none; error: it raised something of its own; hung: no sign of life, or no end;
peer: it could not reach another rank, which is most likely the one to blame."""

ROOT_FIRST: tuple[FaultKind, ...] = ("died", "memory", "error", "hung", "peer")
"""When several ranks fail together: which of the failures most likely brought the others about."""

PEER_WORDS = ("gloo", "nccl", "connection closed by peer", "connection reset by peer", "timed out waiting", "tcpstore")
"""In the messages of torch.distributed, which are plain RuntimeErrors; in lower case."""

MEMORY_WORDS = ("out of memory", "can't allocate memory", "cannot allocate memory")


class WorkerLostError(ClusterError):
    """A rank has died, hangs or ran out of memory: its group is gone, and the run may start again from its last checkpoint."""


class WorkerGroup(Protocol):
    """Calls methods of `rlkit.cluster.worker.TrainingWorker` on all ranks at once; may be used from several threads.

    A failure of any rank is the end of the group: it raises `WorkerLostError`, or what the rank raised where starting
    again would raise it again.
    """

    @property
    def size(self) -> int: ...

    @property
    def call_timeout_s(self) -> float:
        """`cluster.call_timeout_s`; 0 is for ever."""
        ...

    def call(self, method: str, *arguments: Any) -> list[Any]:
        """The same call on every rank; what the ranks returned, in their order."""
        ...

    def scatter(self, method: str, arguments: Sequence[tuple[Any, ...]]) -> list[Any]:
        """As `call`, with arguments of its own for each rank: nothing else is sent to it."""
        ...

    def next_chunk(self, name: str) -> WeightChunk | None:
        """The next piece of rank 0's export of a model; None after the last."""
        ...

    def share(self, chunk: WeightChunk) -> Any:
        """A copy where every rank can read it: what stands for `chunk` in the arguments of `update_weights`."""
        ...

    def lose(self, rank: int, cause: str) -> Exception:
        """Give up a rank that does not get on: the end of the group. Returns what to raise; `cause` goes on from its name."""
        ...

    def close(self) -> None:
        """End all ranks; may be called twice."""
        ...


@dataclass(frozen=True, eq=False)
class Fault:
    """What happened to a rank; `worker` names it with its roles and its process."""

    kind: FaultKind
    worker: str
    cause: str
    error: Exception | None = None


def fault_of(error: Exception, worker: str, during: str) -> Fault:
    """Of something that a rank raised."""
    text = describe_error(error)
    if isinstance(error, RLKitError):
        return Fault("error", worker, text, error)
    if isinstance(error, MemoryError) or any(word in text.lower() for word in MEMORY_WORDS):
        return Fault("memory", worker, f"ran out of memory in {during}: {text}", error)
    if isinstance(error, RuntimeError | OSError) and any(word in text.lower() for word in PEER_WORDS):
        return Fault("peer", worker, f"lost the other ranks in {during}: {text}", error)
    return Fault("error", worker, f"failed in {during}: {text}", error)


def root_of(faults: Sequence[Fault]) -> Fault:
    """The one of several that most likely brought the others about (at least one)."""
    return min(faults, key=lambda fault: ROOT_FIRST.index(fault.kind))


def error_of(fault: Fault) -> RLKitError:
    """What the driver raises: one line that names the rank, its roles and the cause."""
    if isinstance(fault.error, RLKitError):
        return fault.error
    line = f"{fault.worker} {fault.cause}"[:600]
    return ClusterError(line) if fault.kind == "error" else WorkerLostError(line)


def spoken_call(method: str, arguments: tuple[Any, ...]) -> str:
    """A call as messages name it: `actor.update_policy`."""
    if method == "call":
        return f"{arguments[0]}.{arguments[1]}"
    if method == "call_engine":
        return f"engine.{arguments[0]}"
    return method.replace("_", " ")
