"""What a pool of replicas needs of the thing that runs them: Ray in earnest, threads of this process in tests."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from rlkit.cluster.weight_chunks import WeightChunk
from rlkit.errors import ClusterError

ReplicaHandle = Any
Call = Any
SharedChunk = Any


class ReplicaLostError(ClusterError):
    """A replica has died, or was killed, before its call was done."""


class ReplicaTransport(Protocol):
    """Runs `rlkit.cluster.replica.EngineReplica` objects elsewhere and calls their methods, one at a time each."""

    def start(self, number: int) -> ReplicaHandle:
        """A new replica, at once: what is wrong with it is told by the first call."""
        ...

    def call(self, replica: ReplicaHandle, method: str, *arguments: Any) -> Call:
        """Begin a call and return."""
        ...

    def wait(self, calls: Sequence[Call], timeout_s: float) -> list[Call]:
        """Those that are done (all of them, once one is), or none after `timeout_s` seconds.

        Raises `ClusterError` when whatever runs the replicas is gone itself.
        """
        ...

    def result(self, call: Call) -> Any:
        """What a call that is done returned. Raises what it raised, or `ReplicaLostError`."""
        ...

    def silent_for(self, replica: ReplicaHandle) -> float | None:
        """Seconds since the replica's process gave its last sign of life; None where none was ever heard."""
        ...

    def share(self, chunk: WeightChunk) -> SharedChunk:
        """Copy a chunk to where every replica can read it; freed with the last reference."""
        ...

    def stop(self, replica: ReplicaHandle) -> None:
        """End a replica at once; it may be dead already."""
        ...

    def close(self) -> None:
        """Free everything; may be called twice."""
        ...
