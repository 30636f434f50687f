"""Replicas at work: who is free, who has died, who takes its place.

starting --set up--> idle --chunk--> answering --> idle
            |                           |
            +------- died --------------+--> starting (while the budget lasts) --> gone
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Literal

from rlkit.cluster.replica import ReplicaInfo, ReplicaState
from rlkit.cluster.requests import Chunk, StickyRoutes
from rlkit.cluster.restarts import RestartBudget
from rlkit.cluster.transport import Call, ReplicaHandle, ReplicaLostError, ReplicaTransport
from rlkit.errors import ClusterError, RLKitError
from rlkit.rollout.answered import reason_of

LOGGER = logging.getLogger("rlkit")

POLL_S = 0.5
"""How often to look whether Ray itself is still there, while nothing comes from the replicas."""

SYSTEM_ERRORS = (RuntimeError, MemoryError, OSError, SystemError)
"""What an engine raises when it is broken itself (CUDA's errors are RuntimeErrors): its replica is replaced. Everything
else, and rlkit's own errors, are about the request."""

Activity = Literal["starting", "idle", "answering", "called", "gone"]


@dataclass(eq=False)
class Slot:
    """The place of one replica; `replica`, `info` and `call` change when it is started anew."""

    number: int
    activity: Activity = "gone"
    replica: ReplicaHandle = None
    info: ReplicaInfo | None = None
    call: Call = None
    chunk: Chunk | None = None
    since: float = 0.0

    def __str__(self) -> str:
        return f"replica {self.number}" + ("" if self.info is None else f" ({self.info})")


@dataclass(frozen=True, eq=False)
class Answered:
    """A chunk that a replica has answered, or refused with `error`, or died over (`lost`, with the reason as `error`).

    answers: what the replica's method returned, `ReplicaAnswers` of an engine's.
    """

    chunk: Chunk
    answers: Any = None
    error: Exception | None = None
    lost: bool = False


@dataclass(eq=False)
class ReplicaPool:
    """`count` replicas. Every method may find that one has died, and starts it anew in the present state.

    ask                the replicas' method that answers a chunk
    section            config path of the pool's settings, for messages
    request_timeout_s  for one call of a replica that is ready; 0: no limit
    silence_timeout_s  without a sign of life of a replica that is at work; 0: no limit

    Raises `ClusterError` naming the cause when the last one is gone.
    """

    transport: ReplicaTransport
    count: int
    budget: RestartBudget
    start_timeout_s: float
    request_timeout_s: float = 0.0
    silence_timeout_s: float = 0.0
    ask: str = "generate"
    section: str = "cluster"
    routes: StickyRoutes = field(default_factory=StickyRoutes)
    state: ReplicaState = field(default_factory=ReplicaState)
    _slots: list[Slot] = field(default_factory=list)

    def start(self) -> None:
        """Start all replicas and wait until they are ready. What is wrong with the model or the options raises here."""
        self._slots = [Slot(number) for number in range(self.count)]
        for slot in self._slots:
            self._launch(slot)
        self._settle(first_start=True)
        LOGGER.info("replicas are ready: %s", "; ".join(str(slot) for slot in self._slots))

    @property
    def num_live(self) -> int:
        return sum(slot.activity != "gone" for slot in self._slots)

    @property
    def num_restarts(self) -> int:
        return self.budget.total

    def infos(self) -> tuple[ReplicaInfo, ...]:
        """Of the replicas that are ready or busy."""
        return tuple(slot.info for slot in self._slots if slot.info is not None and slot.activity != "gone")

    def idle_slots(self) -> list[Slot]:
        return [slot for slot in self._slots if slot.activity == "idle"]

    @property
    def is_busy(self) -> bool:
        """Whether any replica is answering or starting."""
        return any(slot.call is not None for slot in self._slots)

    def hand_out(self, slot: Slot, chunk: Chunk, *arguments: Any) -> None:
        """Let an idle replica answer a chunk: `EngineReplica.generate(*arguments)`, or as `ask` says."""
        slot.chunk = chunk
        self._begin(slot, "answering", self.ask, *arguments)

    def forget_answers(self) -> None:
        """Nobody asks any more for what is being answered."""
        for slot in self._slots:
            if slot.activity == "answering":
                slot.activity, slot.chunk = "called", None

    def finished(self) -> Iterator[Answered]:
        """Wait until something is done, and say which chunks are. Empty when only a replica has become ready."""
        for slot in self._wait(POLL_S):
            if slot.activity == "answering":
                yield self._finish_chunk(slot)
            else:
                self._finish_other(slot)
        yield from self._replace_overdue(with_starting=True)

    def call_all(self, state: ReplicaState, method: str, *arguments: Any) -> None:
        """The same call on every replica, which brings them into `state`; one that dies over it is started in that state.

        Raises what a replica raised, after all have finished.
        """
        self._settle(first_start=False)
        self.state = state
        for slot in self.idle_slots():
            self._begin(slot, "called", method, *arguments)
        faults: list[Exception] = []
        while any(slot.activity == "called" for slot in self._slots):
            for slot in self._wait(POLL_S):
                fault = self._finish_other(slot)
                faults += [fault] if fault is not None else []
            self._replace_overdue()
        if faults:
            raise faults[0]

    def close(self) -> None:
        """Ask every replica to close its engine, and end it; may be called twice."""
        calls = [self.transport.call(slot.replica, "close") for slot in self.idle_slots()]
        try:
            if calls:
                self.transport.wait(calls, POLL_S)
        except ClusterError:
            LOGGER.debug("Ray is gone; there is nothing left to close")
        for slot in self._slots:
            if slot.activity != "gone":
                self._retire(slot)
        self.transport.close()

    def _launch(self, slot: Slot) -> None:
        slot.replica, slot.info = self.transport.start(slot.number), None
        self._begin(slot, "starting", "set_up", self.state)

    def _begin(self, slot: Slot, activity: Activity, method: str, *arguments: Any) -> None:
        slot.activity, slot.since = activity, time.monotonic()
        slot.call = self.transport.call(slot.replica, method, *arguments)

    def _wait(self, timeout_s: float) -> list[Slot]:
        """Slots whose call is done."""
        busy = [slot for slot in self._slots if slot.call is not None]
        if not busy:
            self._check_not_alone()
            return []
        done = self.transport.wait([slot.call for slot in busy], timeout_s)
        return [slot for slot in busy if any(slot.call is call for call in done)]

    def _settle(self, *, first_start: bool) -> None:
        """Wait for starting replicas, and for answers that nobody asks for any more."""
        self.forget_answers()
        deadline = time.monotonic() + self.start_timeout_s
        while any(slot.call is not None for slot in self._slots):
            for slot in self._wait(POLL_S):
                self._finish_other(slot, first_start=first_start)
            self._replace_overdue()
            waiting = sum(slot.activity == "starting" for slot in self._slots)
            if waiting and time.monotonic() > deadline:
                raise ClusterError(
                    f"{waiting} of {self.count} replicas were not ready after {self.start_timeout_s:g} s: the cluster has "
                    f"no room for them, or the model takes longer to load ({self.section}.start_timeout_s)"
                )
        self._check_not_alone()

    def _finish_other(self, slot: Slot, *, first_start: bool = False) -> Exception | None:
        """What a call that is no request for answers raised, where that is not the end of the replica."""
        if slot.activity == "starting":
            self._finish_start(slot, first_start=first_start)
            return None
        return self._finish_call(slot)

    def _finish_start(self, slot: Slot, *, first_start: bool) -> None:
        call, slot.call = slot.call, None
        try:
            slot.info = self.transport.result(call)
            slot.activity = "idle"
        except ReplicaLostError as error:
            self._replace(slot, str(error))
        except RLKitError as error:
            if first_start:
                raise
            self._replace(slot, reason_of(error))
        except Exception as error:
            self._replace(slot, reason_of(error))

    def _finish_chunk(self, slot: Slot) -> Answered:
        call, chunk = slot.call, slot.chunk
        assert chunk is not None
        slot.call = slot.chunk = None
        try:
            answers = self.transport.result(call)
        except Exception as error:
            if isinstance(error, ReplicaLostError) or is_system_error(error):
                self._replace(slot, reason_of(error))
                return Answered(chunk, error=error, lost=True)
            slot.activity = "idle"
            return Answered(chunk, error=error)
        slot.activity = "idle"
        return Answered(chunk, answers)

    def _finish_call(self, slot: Slot) -> Exception | None:
        call, slot.call = slot.call, None
        try:
            self.transport.result(call)
        except Exception as error:
            if isinstance(error, ReplicaLostError) or is_system_error(error):
                self._replace(slot, reason_of(error))
                return None
            slot.activity = "idle"
            return error
        slot.activity = "idle"
        return None

    def _replace_overdue(self, *, with_starting: bool = False) -> list[Answered]:
        """Start replicas anew that take too long or give no sign of life; the chunks that they had."""
        lost: list[Answered] = []
        for slot in self._slots:
            fault = "" if slot.activity == "starting" and not with_starting else self._overdue(slot)
            if fault:
                chunk = slot.chunk
                self._replace(slot, fault)
                lost += [] if chunk is None else [Answered(chunk, error=ReplicaLostError(fault), lost=True)]
        return lost

    def _overdue(self, slot: Slot) -> str:
        """What is wrong with a replica whose call does not come back; empty while it may still do so."""
        if slot.call is None:
            return ""
        at_work = time.monotonic() - slot.since
        if slot.activity == "starting":
            return f"it was not ready after {self.start_timeout_s:g} s" if at_work > self.start_timeout_s else ""
        if 0 < self.request_timeout_s < at_work:
            return f"it was not done after {self.request_timeout_s:g} s ({self.section}.request_timeout_s)"
        silent = self.transport.silent_for(slot.replica) if self.silence_timeout_s else None
        if silent is not None and min(silent, at_work) > self.silence_timeout_s:
            return f"no sign of life for {self.silence_timeout_s:g} s ({self.section}.silence_timeout_s)"
        return ""

    def _replace(self, slot: Slot, cause: str) -> None:
        """Start a replica anew where one has died or is broken; its conversations go on elsewhere."""
        name = str(slot)
        self._retire(slot)
        self.routes.forget_replica(slot.number)
        if self.budget.take():
            LOGGER.warning("%s is lost: %s; starting it anew (restart %s)", name, cause, self.budget)
            self._launch(slot)
            return
        LOGGER.warning("%s is lost: %s; it is not started again (restarts: %s)", name, cause, self.budget)
        if self.num_live == 0:
            raise ClusterError(
                f"no replica is left: the last one, {name}, was lost ({cause}), and the restarts are used up "
                f"({self.budget}; {self.section}.max_restarts)"
            )

    def _retire(self, slot: Slot) -> None:
        self.transport.stop(slot.replica)
        slot.activity, slot.replica, slot.call, slot.chunk, slot.info = "gone", None, None, None, None

    def _check_not_alone(self) -> None:
        if self._slots and self.num_live == 0:
            raise ClusterError("no replica is left")


def is_system_error(error: BaseException) -> bool:
    """Whether the engine is broken, rather than the request wrong."""
    return isinstance(error, SYSTEM_ERRORS) and not isinstance(error, RLKitError)
