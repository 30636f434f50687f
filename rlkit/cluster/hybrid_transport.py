"""Replicas that live in the actor's worker processes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rlkit.cluster.ray_workers import RayWorkerGroup
from rlkit.cluster.replica import ReplicaDescription
from rlkit.cluster.weight_chunks import WeightChunk


class HybridTransport:
    """Implements `rlkit.cluster.transport.ReplicaTransport`: replica number n is in the process of rank n.

    A replica that is lost is a worker that is lost: that ends the group, and `result` says so.
    """

    def __init__(self, group: RayWorkerGroup, description: ReplicaDescription) -> None:
        self._group = group
        group.call("place_engine", description)

    def start(self, number: int) -> int:
        return number

    def call(self, replica: int, method: str, *arguments: Any) -> Any:
        return self._group.begin(replica, "call_engine", method, arguments)

    def wait(self, calls: Sequence[Any], timeout_s: float) -> list[Any]:
        return self._group.wait_for(calls, timeout_s)

    def result(self, call: Any) -> Any:
        return self._group.result(call)

    def silent_for(self, replica: int) -> float | None:
        """Never heard: the group itself watches its ranks, in `wait`."""
        return None

    def share(self, chunk: WeightChunk) -> Any:
        return WeightChunk(chunk.places, chunk.data.copy())

    def stop(self, replica: int) -> None:
        """The worker goes on: it is the group's."""

    def close(self) -> None:
        """The group is closed by whoever opened it."""
