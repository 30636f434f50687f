"""Replicas without processes: an engine whose answers are a function of row, sample, seed and weights, and a transport
in which calls take as long as the answers are, in made-up seconds."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from rlkit.cluster.replica import EngineReplica, ReplicaInfo, ReplicaState
from rlkit.cluster.replica_pool import ReplicaPool
from rlkit.cluster.replicated_engine import ReplicatedEngine
from rlkit.cluster.restarts import RestartBudget
from rlkit.cluster.transport import ReplicaLostError
from rlkit.cluster.weight_chunks import WeightChunk
from rlkit.errors import ModelError
from rlkit.types import AdapterWeights, Prompt, PromptBatch, Ragged, Rollouts, SamplingParams


class Died(BaseException):
    """Stands for the end of a process."""


@dataclass
class Faults:
    """What goes wrong, by row_id; counted down, so that a fault may happen a few times only."""

    dies: Counter[int] = field(default_factory=Counter)
    breaks: Counter[int] = field(default_factory=Counter)
    refuses: Counter[int] = field(default_factory=Counter)
    dies_on_update: Counter[int] = field(default_factory=Counter)  # by number of the replica
    dies_at_start: Counter[int] = field(default_factory=Counter)
    hangs: Counter[int] = field(default_factory=Counter)
    freezes: Counter[int] = field(default_factory=Counter)  # hangs, and gives no sign of life
    freezes_on_update: Counter[int] = field(default_factory=Counter)  # by number of the replica
    refuses_to_start: str = ""
    closed: int = 0  # transports

    @staticmethod
    def strikes(counter: Counter[int], key: int) -> bool:
        if counter[key] <= 0:
            return False
        counter[key] -= 1
        return True


class RowEngine:
    """A rollout engine without a model: 1 to 9 tokens below 20 made from (weights, seed, row_id, sample)."""

    def __init__(self, faults: Faults, number: int = 0) -> None:
        self.faults, self.number = faults, number
        self.weight, self.adapter, self.version = 1.0, 0.0, 0
        self.calls: list[Any] = []

    def generate(self, prompts: PromptBatch, sampling: SamplingParams) -> Rollouts:
        self.calls.append(tuple(prompt.row_id for prompt in prompts.prompts))
        for prompt in prompts.prompts:
            if Faults.strikes(self.faults.dies, prompt.row_id):
                raise Died
            if Faults.strikes(self.faults.breaks, prompt.row_id):
                raise RuntimeError("CUDA error: device-side assert triggered")
            if Faults.strikes(self.faults.refuses, prompt.row_id):
                raise ModelError(f"row {prompt.row_id} is too long")
        asked: Counter[int] = Counter()
        answers, rows = [], []
        for position, prompt in enumerate(prompts.prompts):
            for _ in range(sampling.samples):
                answers.append(self._answer(sampling.seed, prompt.row_id, asked[prompt.row_id]))
                asked[prompt.row_id] += 1
                rows.append(position)
        token_ids = Ragged.from_rows(answers, dtype=torch.int64)
        return Rollouts(
            prompt_ids=Ragged.from_rows([prompts.token_ids[row] for row in rows], dtype=torch.int64),
            response_ids=token_ids,
            response_mask=token_ids.with_values(torch.ones_like(token_ids.values, dtype=torch.bool)),
            rollout_log_probs=token_ids.with_values(-token_ids.values.float() / 100),
            group_ids=torch.tensor(rows),
            finish_reasons=tuple("stop" if len(answer) < 9 else "length" for answer in answers),
            policy_version=self.version,
            prompts=tuple(prompts.prompts[row] for row in rows),
        )

    def _answer(self, seed: int, row_id: int, sample: int) -> list[int]:
        digest = hashlib.sha256(f"{self.weight + self.adapter}:{seed}:{row_id}:{sample}".encode()).digest()
        return [byte % 20 for byte in digest[: 1 + digest[0] % 9]]

    def resume(self, parts: Iterable[str]) -> None:
        self.calls.append(("resume", *parts))

    def release(self, parts: Iterable[str]) -> None:
        self.calls.append(("release", *parts))

    def update_weights(self, named_tensors: Iterable[tuple[str, torch.Tensor]], version: int) -> None:
        if Faults.strikes(self.faults.dies_on_update, self.number):
            raise Died
        for name, tensor in named_tensors:
            if name != "weight":
                raise ModelError(f"unknown name '{name}'")
            self.weight, self.adapter = float(tensor), 0.0
        self.version = version

    takes_adapters = True

    def update_adapter(self, adapter: AdapterWeights, version: int) -> None:
        """A layer named `weight`, whose 1 x 1 product is added to the weight."""
        if Faults.strikes(self.faults.dies_on_update, self.number):
            raise Died
        if set(adapter.layers) != {"weight"}:
            raise ModelError(f"unknown layers {', '.join(adapter.layers)}")
        down, up = adapter.layers["weight"]
        self.adapter = adapter.scale * float(up @ down)
        self.version = version

    def close(self) -> None:
        self.calls.append("close")


class SimulatedReplica(EngineReplica):
    """A replica whose engine is there from the beginning."""

    def __init__(self, faults: Faults, number: int, serial: int) -> None:
        self.faults, self.number, self.serial = faults, number, serial
        self.is_dead = False
        self.is_frozen = False
        self.seconds_per_token = 1.0
        self.engine = RowEngine(faults, number)
        self._engine = self.engine
        self._read_chunk = lambda chunk: chunk

    def set_up(self, state: ReplicaState) -> ReplicaInfo:
        if Faults.strikes(self.faults.dies_at_start, self.number):
            raise Died
        if self.faults.refuses_to_start:
            raise ModelError(self.faults.refuses_to_start)
        self.bring_into(state)
        return ReplicaInfo("here", self.serial, takes_adapters=self.engine.takes_adapters)


@dataclass(eq=False)
class SimulatedCall:
    replica: SimulatedReplica
    result: Any
    error: BaseException | None
    ends_at: float


class SimulatedTransport:
    """Runs each call at once, and hands out what came of it when its time has come."""

    def __init__(self, faults: Faults) -> None:
        self.faults = faults
        self.started: list[SimulatedReplica] = []
        self.now = 0.0
        self.closed = 0
        self.shared: list[WeightChunk] = []

    def start(self, number: int) -> SimulatedReplica:
        self.started.append(SimulatedReplica(self.faults, number, len(self.started)))
        return self.started[-1]

    def call(self, replica: SimulatedReplica, method: str, *arguments: Any) -> SimulatedCall:
        call = SimulatedCall(replica, None, None, self.now + 1)
        if replica.is_dead:
            call.error = ReplicaLostError("the process is gone")
            return call
        try:
            call.result = getattr(replica, method)(*arguments)
        except Died:
            replica.is_dead = True
            call.error = ReplicaLostError("killed by signal 9")
        except Exception as error:
            call.error = error
        if method == "update_weights" and Faults.strikes(self.faults.freezes_on_update, replica.number):
            replica.is_frozen, call.ends_at = True, float("inf")
        if method == "generate" and call.result is not None:
            call.ends_at = self.now + replica.seconds_per_token * float(call.result.lengths.sum())
            if any(Faults.strikes(self.faults.hangs, p.row_id) for p in arguments[0].prompts):
                call.ends_at = float("inf")
            if any(Faults.strikes(self.faults.freezes, p.row_id) for p in arguments[0].prompts):
                replica.is_frozen, call.ends_at = True, float("inf")
        return call

    def wait(self, calls: Sequence[SimulatedCall], timeout_s: float) -> list[SimulatedCall]:
        first = min(call.ends_at for call in calls)
        if first == float("inf"):
            return []
        self.now = max(self.now, first)
        return [call for call in calls if call.ends_at <= self.now]

    def result(self, call: SimulatedCall) -> Any:
        if call.error is not None:
            raise call.error
        return call.result

    def silent_for(self, replica: SimulatedReplica) -> float | None:
        return float("inf") if replica.is_frozen else 0.0

    def share(self, chunk: WeightChunk) -> WeightChunk:
        self.shared.append(WeightChunk(chunk.places, chunk.data.copy()))
        return self.shared[-1]

    def stop(self, replica: SimulatedReplica) -> None:
        replica.is_dead = True

    def close(self) -> None:
        self.closed += 1
        self.faults.closed += 1

    @property
    def alive(self) -> list[SimulatedReplica]:
        return [replica for replica in self.started if not replica.is_dead]


@dataclass
class Simulation:
    engine: ReplicatedEngine
    pool: ReplicaPool
    transport: SimulatedTransport
    faults: Faults

    def calls(self) -> list[list[Any]]:
        """What each replica was asked, in the order in which they were started."""
        return [replica.engine.calls for replica in self.transport.started]


def simulate(
    count: int = 2,
    faults: Faults | None = None,
    *,
    restarts: int = 5,
    attempts: int = 3,
    timeout_s: float = 0.0,
    silence_s: float = 0.0,
) -> Simulation:
    """An engine over `count` simulated replicas, ready."""
    faults = faults or Faults()
    transport = SimulatedTransport(faults)
    pool = ReplicaPool(transport, count, RestartBudget(restarts, 600), 60.0, timeout_s, silence_s)
    engine = ReplicatedEngine(pool, request_attempts=attempts, weight_chunk_bytes=1024)
    return Simulation(engine, pool, transport, faults)


def row_prompts(row_ids: Iterable[int], *, conversations: Sequence[str] = ()) -> PromptBatch:
    ids = list(row_ids)
    return PromptBatch(
        tuple(Prompt(row_id=row, text=f"q{row}") for row in ids),
        tuple((row, row + 1) for row in ids),
        tuple(conversations),
    )


def same(left: Rollouts, right: Rollouts) -> bool:
    """Every field, bit for bit."""
    assert left.rollout_log_probs is not None and right.rollout_log_probs is not None
    return (
        torch.equal(left.response_ids.values, right.response_ids.values)
        and torch.equal(left.response_ids.lengths, right.response_ids.lengths)
        and torch.equal(left.response_mask.values, right.response_mask.values)
        and torch.equal(left.rollout_log_probs.values, right.rollout_log_probs.values)
        and torch.equal(left.prompt_ids.values, right.prompt_ids.values)
        and torch.equal(left.group_ids, right.group_ids)
        and left.finish_reasons == right.finish_reasons
        and left.policy_version == right.policy_version
        and all(a is b for a, b in zip(left.prompts, right.prompts, strict=True))
    )
