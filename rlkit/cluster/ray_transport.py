"""Replicas as Ray actors."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rlkit.cluster.device_chunks import DeviceChunk
from rlkit.cluster.pulse import PulseAddress, PulseListener
from rlkit.cluster.ray_session import RaySession
from rlkit.cluster.replica import EngineReplica, ReplicaDescription
from rlkit.cluster.score_replica import ScoreDescription, ScoreReplica
from rlkit.cluster.transport import ReplicaLostError
from rlkit.cluster.weight_chunks import Chunk, WeightChunk


class RayTransport:
    """Implements `rlkit.cluster.transport.ReplicaTransport`.

    replica: its class, made with the description, a function that reads shared chunks, and a pulse. cpus, gpus: that Ray
    reserves for each replica. environment: variables of the workers. on_this_node: nowhere else. beside: Ray's placement
    group in whose bundles the replicas go, beside what is there.
    """

    def __init__(
        self,
        session: RaySession,
        description: ReplicaDescription | ScoreDescription,
        *,
        replica: type[EngineReplica] | type[ScoreReplica] = EngineReplica,
        cpus: float = 1,
        gpus: float = 0,
        environment: dict[str, str] | None = None,
        on_this_node: bool = False,
        beside: Any = None,
    ) -> None:
        import ray
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy, PlacementGroupSchedulingStrategy

        self._ray = ray
        self._session = session
        self._pulses = PulseListener(ray.util.get_node_ip_address())
        self._pulse_of: dict[int, PulseAddress] = {}  # by identity of the handle
        self._description = description
        place: Any = "SPREAD"
        if beside is not None:
            place = PlacementGroupSchedulingStrategy(beside)
        elif on_this_node:
            place = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
        self._actor = ray.remote(replica).options(
            num_cpus=cpus,
            num_gpus=gpus,
            max_restarts=0,  # the pool starts replicas anew, with the present weights
            scheduling_strategy=place,
            runtime_env={"env_vars": environment} if environment else None,
        )

    def start(self, number: int) -> Any:
        pulse = self._pulses.new_address()
        replica = self._actor.remote(self._description, read_shared_chunk, pulse)
        self._pulse_of[id(replica)] = pulse
        return replica

    def call(self, replica: Any, method: str, *arguments: Any) -> Any:
        return getattr(replica, method).remote(*arguments)

    def wait(self, calls: Sequence[Any], timeout_s: float) -> list[Any]:
        calls = list(calls)
        done, rest = self._ray.wait(calls, num_returns=1, timeout=timeout_s)
        if not done:
            self._session.check_alive()
            return []
        if rest:
            more, _ = self._ray.wait(rest, num_returns=len(rest), timeout=0)
            done += more
        return [call for call in calls if call in done]

    def result(self, call: Any) -> Any:
        exceptions = self._ray.exceptions
        try:
            return self._ray.get(call)
        except exceptions.RayTaskError as error:
            # What the engine raised, without Ray's report of where.
            raise error.cause if isinstance(error.cause, Exception) else ReplicaLostError(first_line(error)) from None
        except exceptions.RayError as error:
            self._session.check_alive()
            raise ReplicaLostError(first_line(error)) from None

    def share(self, chunk: WeightChunk) -> Any:
        return self._ray.put(chunk)

    def silent_for(self, replica: Any) -> float | None:
        return self._pulses.silent_for(self._pulse_of[id(replica)])

    def stop(self, replica: Any) -> None:
        self._pulses.forget(self._pulse_of.pop(id(replica)))
        self._ray.kill(replica, no_restart=True)

    def close(self) -> None:
        self._pulses.close()
        self._session.close()


def read_shared_chunk(reference: Any) -> Chunk:
    """In a worker: the chunk, its data a view of shared memory, or memory of the GPU that the worker shares."""
    import ray

    if isinstance(reference, DeviceChunk):
        return reference
    chunk: WeightChunk = ray.get(reference)
    return chunk


def first_line(error: BaseException) -> str:
    """Of Ray's long reports the sentence that says what happened."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    details = [line for line in lines if "exit detail" in line]
    text = details[0].partition("exit detail:")[2].strip() if details else (lines[0] if lines else type(error).__name__)
    return text.partition(". Some common causes")[0].partition(" Some common causes")[0][:300].rstrip(".")
