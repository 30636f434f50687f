"""One Ray actor for each rank, in a placement group."""

from __future__ import annotations

import logging
import os
import signal
import tempfile
import threading
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from rlkit.cluster.parent import end_with_parent
from rlkit.cluster.ray_session import RaySession
from rlkit.cluster.worker import TrainingWorker, WorkerDescription, WorkerPlace
from rlkit.cluster.worker_group import Fault, WorkerLostError, error_of, fault_of, root_of, spoken_call
from rlkit.errors import ClusterError, RLKitError

if TYPE_CHECKING:
    from rlkit.cluster.weight_chunks import WeightChunk

LOGGER = logging.getLogger("rlkit")

POLL_S = 0.5
"""How often to ask whether the ranks are alive while they work."""

LOOKS = 4
"""A silence lasts for so many of them at least: a driver that was held up itself, on a machine that stood still, heard nobody."""

GRACE_S = 3.0
"""After a rank has failed: how long the others are waited for, so that the line names the one that failed first."""

WITHOUT_LIMIT = ("engine.generate", "engine.set_up")
"""Calls of one rank alone that last as long as they must; the start of an engine has `cluster.start_timeout_s`."""

HEALTH_GROUP = "health"
"""Calls of this Ray concurrency group are answered while the rank works."""

ANSWERED_AT_ONCE = ("save_is_done",)
"""Questions that must not wait in the queue behind a rollout."""


@dataclass(frozen=True)
class WorkerLimits:
    """start_s: until all ranks must have a place, and again until their processes run; silence_s: without a sign of life;
    call_s: for one call; call_key: the setting that says so. 0 is for ever, but for start_s.
    """

    start_s: float
    silence_s: float
    call_s: float
    call_key: str = "cluster.call_timeout_s"

    def of_start(self) -> WorkerLimits:
        """For the first answer of all: before it there is no process that could give a sign of life."""
        return replace(self.of_join(), silence_s=0.0)

    def of_join(self) -> WorkerLimits:
        """While the ranks find each other and import what their backend needs, which takes long on a busy machine."""
        return replace(self, call_s=self.start_s, call_key="cluster.start_timeout_s")


@dataclass(frozen=True)
class WorkerSpace:
    """Where the ranks go: `count` of them, each with a GPU or a CPU; on `nodes` nodes evenly, 0: on as few as possible.

    roles   the models that they are for, for messages
    guests  replicas in processes of their own that share the ranks' devices
    """

    roles: tuple[str, ...]
    count: int
    gpus: bool = False
    nodes: int = 0
    guests: int = 0

    @property
    def gpus_of_a_worker(self) -> float:
        """Guests take the other half: Ray gives out parts of a GPU, without holding anybody to them."""
        return (0.5 if self.guests else 1.0) if self.gpus else 0.0

    @property
    def gpus_of_a_guest(self) -> float:
        return 0.5 / -(-self.guests // self.count) if self.gpus and self.guests else 0.0


class RayTrainingWorker(TrainingWorker):
    """Ends with Ray's node process, and says what Ray calls the node."""

    def __init__(self, rank: int, size: int) -> None:
        end_with_parent()
        super().__init__(rank, size)

    def place(self, address: str = "", node_id: str = "") -> WorkerPlace:
        import ray

        return super().place(ray.util.get_node_ip_address(), ray.get_runtime_context().get_node_id())

    def update_weights(self, name: str, keywords: Mapping[str, Any], chunks: Iterable[Any]) -> None:
        """The chunks are Ray's references to them."""
        import ray

        super().update_weights(name, keywords, map(ray.get, chunks))


class RayWorkerGroup:
    """Implements `rlkit.cluster.worker_group.WorkerGroup`."""

    worker_class: type[TrainingWorker] = RayTrainingWorker
    """What each rank is in its process."""

    def __init__(self, session: RaySession, space: WorkerSpace, limits: WorkerLimits) -> None:
        import ray

        self._ray = ray
        self._session = session
        self.space = space
        self._limits = limits
        self._lock = threading.RLock()
        self._workers: list[Any] = []
        self._places: list[WorkerPlace | None] = [None] * space.count
        self._rendezvous = tempfile.TemporaryDirectory(prefix="rlkit-ranks-")
        self._begun: dict[Any, tuple[int, str]] = {}
        self._watch: _Watch | None = None
        self._ended_by: Exception | None = None
        self._group = _placement(space)
        try:
            self._start()
        except BaseException:
            self.close()
            raise

    @property
    def size(self) -> int:
        return self.space.count

    @property
    def places(self) -> list[WorkerPlace | None]:
        return self._places

    @property
    def workers(self) -> list[Any]:
        """The Ray actors, by rank."""
        return self._workers

    def join(self, description: WorkerDescription) -> None:
        """Let the ranks find each other and build the backend."""
        first = self._places[0]
        assert first is not None
        if self._session.started_here:
            rendezvous = f"file://{self._rendezvous.name}/store"
        else:
            rendezvous = str(self._collect([self._workers[0].new_rendezvous.remote(first.address)], "start")[0])
        addresses = [place.address for place in self._places if place is not None]
        self.scatter("join", [(description, rendezvous, address) for address in addresses])

    def call(self, method: str, *arguments: Any) -> list[Any]:
        return self.scatter(method, [arguments] * self.size)

    def scatter(self, method: str, arguments: Sequence[tuple[Any, ...]]) -> list[Any]:
        with self._lock:
            self._check_open()
            asked = [getattr(worker, method) for worker in self._workers]
            if method in ANSWERED_AT_ONCE:
                asked = [question.options(concurrency_group=HEALTH_GROUP) for question in asked]
            calls = [question.remote(*own) for question, own in zip(asked, arguments, strict=True)]
        return self._collect(
            calls, spoken_call(method, arguments[0]), self._limits.of_join() if method == "join" else None
        )

    def next_chunk(self, name: str) -> WeightChunk | None:
        reference = self.shared_chunk(name)
        chunk: WeightChunk | None = None if reference is None else self._ray.get(reference)
        return chunk

    def shared_chunk(self, name: str) -> Any:
        """As `next_chunk`, left in shared memory: a reference that other processes can read."""
        with self._lock:
            self._check_open()
            calls = [worker.next_chunk.options(num_returns=2).remote(name) for worker in self._workers]
        more = self._collect([has_more for has_more, _ in calls], f"{name}.export_weights")
        return calls[0][1] if more[0] else None

    def share(self, chunk: WeightChunk) -> Any:
        return self._ray.put(chunk)

    @property
    def placement_group(self) -> Any:
        """Ray's placement group, in which guests find their place."""
        return self._group

    @property
    def call_timeout_s(self) -> float:
        return self._limits.call_s

    def lose(self, rank: int, cause: str) -> Exception:
        return self._give_up([Fault("hung", self.name_of(rank), cause)])

    def begin(self, rank: int, method: str, *arguments: Any) -> Any:
        """A call on one rank alone, for `wait_for` and `result`."""
        with self._lock:
            self._check_open()
            call = getattr(self._workers[rank], method).remote(*arguments)
            self._begun[call] = (rank, spoken_call(method, arguments))
        return call

    def wait_for(self, calls: Sequence[Any], timeout_s: float) -> list[Any]:
        """Those that are done (all of them, once one is), or none after `timeout_s` seconds. Raises for a rank that hangs."""
        calls = list(calls)
        done, rest = self._ray.wait(calls, num_returns=1, timeout=timeout_s)
        if done:
            self._watch = None
            more, _ = self._ray.wait(rest, num_returns=len(rest), timeout=0) if rest else ([], [])
            return [call for call in calls if call in done or call in more]
        self._session.check_alive()
        ranks, during = [self._begun[call][0] for call in calls], self._begun[calls[0]][1]
        # Answers may take their time: only a rank that is silent counts as hung.
        takes_time = any(self._begun[call][1] in WITHOUT_LIMIT for call in calls)
        limits = replace(self._limits, call_s=0.0) if takes_time else self._limits
        if self._watch is None or self._watch.limits != limits:
            self._watch = _Watch(self._ray, self._workers, limits)
        hung = self._watch.look(ranks, "rollout" if takes_time else during)
        if hung:
            raise self._give_up([Fault("hung", self.name_of(rank), cause) for rank, cause in hung])
        return []

    def result(self, call: Any) -> Any:
        """What a call that is done returned. Raises rlkit's own errors as they are, and others as `call` does."""
        rank, during = self._begun.pop(call)
        try:
            return self._ray.get(call)
        except Exception as error:
            self._session.check_alive()
            fault = self._fault(error, rank, during)
        if isinstance(fault.error, RLKitError):
            raise fault.error
        raise self._give_up([fault, *(self._others_that_failed() if fault.kind == "peer" else [])])

    def _others_that_failed(self) -> list[Fault]:
        """One of the other ranks is to blame: those that fail within a moment."""
        calls = list(self._begun)
        done, _ = self._ray.wait(calls, num_returns=len(calls), timeout=GRACE_S) if calls else ([], [])
        faults = []
        for call in done:
            rank, during = self._begun.pop(call)
            try:
                self._ray.get(call)
            except Exception as error:
                faults.append(self._fault(error, rank, during))
        return faults

    def close(self) -> None:
        with self._lock:
            workers, self._workers = self._workers, []
        for worker in workers:
            self._ray.kill(worker, no_restart=True)
        for place in self._places:
            if place is not None:
                _end_process(self._ray, place)
        if self._group is not None:
            self._ray.util.remove_placement_group(self._group)
            self._group = None
        self._rendezvous.cleanup()

    def name_of(self, rank: int) -> str:
        """As messages call it."""
        place = self._places[rank]
        where = "" if place is None else f"; {place}"
        return f"rank {rank} ({', '.join(self.space.roles)}{where})"

    def _start(self) -> None:
        if not self._group.wait(timeout_seconds=self._limits.start_s):
            raise ClusterError(
                f"the cluster had no room for the {self.size} training workers after {self._limits.start_s:g} s "
                "(cluster.start_timeout_s); lower placement.workers, or add nodes"
            )
        from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

        actor = self._ray.remote(concurrency_groups={HEALTH_GROUP: 1})(self.worker_class)
        each = self.size // self.space.nodes if self.space.nodes else 1
        for rank in range(self.size):
            options = actor.options(
                num_cpus=1,
                num_gpus=self.space.gpus_of_a_worker,
                max_restarts=0,
                scheduling_strategy=PlacementGroupSchedulingStrategy(
                    self._group, placement_group_bundle_index=rank // each
                ),
            )
            self._workers.append(options.remote(rank, self.size))
        first = [worker.place.remote() for worker in self._workers]
        self._places = self._collect(first, "its start", self._limits.of_start())

    def _collect(self, calls: list[Any], during: str, limits: WorkerLimits | None = None) -> list[Any]:
        """Wait for one call of each rank. Raises what the first that failed deserves, after ending the group."""
        watch = _Watch(self._ray, self._workers, limits or self._limits)
        results: dict[int, Any] = {}
        faults: list[Fault] = []
        failed_at = 0.0
        while len(results) + len(faults) < len(calls):
            ranks = {id(call): rank for rank, call in enumerate(calls)}
            waiting = [call for rank, call in enumerate(calls) if rank not in results and call is not None]
            done, _ = self._ray.wait(waiting, num_returns=len(waiting), timeout=POLL_S)
            for call in done:
                rank = ranks[id(call)]
                try:
                    results[rank] = self._ray.get(call)
                except Exception as error:
                    self._session.check_alive()
                    faults.append(self._fault(error, rank, during))
                    calls[rank] = None
            if faults:
                failed_at = failed_at or time.monotonic()
                if time.monotonic() - failed_at > GRACE_S:
                    break
                continue
            self._session.check_alive()
            busy = [rank for rank in range(len(calls)) if rank not in results]
            faults += [Fault("hung", self.name_of(rank), cause) for rank, cause in watch.look(busy, during)]
            if faults:
                break
        if faults:
            raise self._give_up(faults)
        return [results[rank] for rank in range(len(calls))]

    def _give_up(self, faults: Sequence[Fault]) -> Exception:
        """End the group, and say what to raise: what ended it first, where two threads find it broken."""
        with self._lock:
            if self._ended_by is not None:
                return self._ended_by
            root = root_of(faults)
            self._ended_by = error_of(root)
            if root.error is not None and root.error is not self._ended_by:
                self._ended_by.__cause__ = root.error
        for fault in faults:
            if fault is not root:
                LOGGER.info("after %s failed: %s %s", root.worker, fault.worker, fault.cause)
        self.close()
        return self._ended_by

    def _fault(self, error: Exception, rank: int, during: str) -> Fault:
        exceptions = self._ray.exceptions
        name = self.name_of(rank)
        if isinstance(error, exceptions.RayTaskError):
            LOGGER.info("%s failed in %s:\n%s", name, during, error)
            cause = error.cause if isinstance(error.cause, Exception) else RuntimeError(_sentence(error))
            return fault_of(cause, name, during)
        if isinstance(error, exceptions.OutOfMemoryError):
            return Fault("memory", name, f"was ended in {during}: its node ran out of memory")
        if isinstance(error, exceptions.RayError):
            return Fault("died", name, f"died in {during}, killed or out of memory: {_sentence(error)}")
        raise error

    def _check_open(self) -> None:
        if self._ended_by is not None:
            raise self._ended_by
        if not self._workers:
            raise WorkerLostError(f"the training workers ({', '.join(self.space.roles)}) are gone")


class _Watch:
    """Signs of life of the ranks during one call."""

    def __init__(self, ray: Any, workers: Sequence[Any], limits: WorkerLimits) -> None:
        self._ray = ray
        self._workers = workers
        self.limits = limits
        self._began = time.monotonic()
        self._asked: dict[int, Any] = {}
        self._looked = self._began
        self._silent_s = dict.fromkeys(range(len(workers)), 0.0)
        self._said: dict[int, str] = {}

    def look(self, busy: Sequence[int], during: str) -> list[tuple[int, str]]:
        """Ranks that are hung, with the cause in words."""
        limits, now = self.limits, time.monotonic()
        listened_s, self._looked = min(now - self._looked, limits.silence_s / LOOKS), now
        for rank in busy:
            self._silent_s[rank] += listened_s
        self._hear(busy)
        silent = [rank for rank in busy if 0 < limits.silence_s < self._silent_s[rank]]
        if silent:
            cause = (
                f"gave no sign of life for {limits.silence_s:g} s in {during}: stopped, or its machine is overloaded "
                "(cluster.silence_timeout_s)"
            )
            return [(rank, cause) for rank in silent]
        if limits.call_s and now - self._began > limits.call_s:
            # Ranks that stand outside torch.distributed are those that the others wait for.
            blamed = [rank for rank in busy if "distributed" not in self._said.get(rank, "")] or list(busy)
            return [
                (
                    rank,
                    f"was not done with {during} after {limits.call_s:g} s ({limits.call_key}): "
                    f"{self._said.get(rank, 'no word from it')}",
                )
                for rank in blamed
            ]
        return []

    def _hear(self, busy: Sequence[int]) -> None:
        for rank in busy:
            if rank not in self._asked:
                health = self._workers[rank].health.options(concurrency_group=HEALTH_GROUP)
                self._asked[rank] = health.remote()
        done, _ = self._ray.wait(list(self._asked.values()), num_returns=len(self._asked), timeout=0)
        for rank in [rank for rank, call in self._asked.items() if call in done]:
            try:
                self._said[rank] = self._ray.get(self._asked.pop(rank))
                self._silent_s[rank] = 0.0
            except self._ray.exceptions.RayError:
                continue  # its end is told by the call that it was at


def _placement(space: WorkerSpace) -> Any:
    """A placement group with a bundle for each rank, or for each node."""
    from ray.util.placement_group import placement_group

    each = space.count // space.nodes if space.nodes else 1
    guests = -(-space.guests // space.count) * each
    bundle = {"CPU": each + guests, "GPU": each} if space.gpus else {"CPU": each + guests}
    strategy = "STRICT_SPREAD" if space.nodes else "PACK"
    return placement_group([dict(bundle) for _ in range(space.count // each)], strategy=strategy)


def _end_process(ray: Any, place: WorkerPlace) -> None:
    """Ray's own way of ending an actor asks it first; one that is stopped does not answer."""
    if not ray.is_initialized():
        return
    if place.node_id == ray.get_runtime_context().get_node_id():
        _kill(place.pid)
        return
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    there = NodeAffinitySchedulingStrategy(place.node_id, soft=False)
    ray.remote(_kill).options(num_cpus=0, max_retries=0, scheduling_strategy=there).remote(place.pid)


def _kill(pid: int) -> None:
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return


def _sentence(error: BaseException) -> str:
    """Of Ray's long reports the one that says what happened."""
    from rlkit.cluster.ray_transport import first_line

    return first_line(error)
