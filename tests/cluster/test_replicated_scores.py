"""Replicas of a reward model give the numbers of one model, whatever dies meanwhile."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest

from rlkit.cluster.replica import ReplicaInfo
from rlkit.cluster.replica_pool import ReplicaPool
from rlkit.cluster.replicated_scores import ReplicatedScores
from rlkit.cluster.restarts import RestartBudget
from rlkit.cluster.transport import ReplicaLostError
from rlkit.errors import ClusterError, ModelError, RewardError
from rlkit.models.score_model import TokenRow


@dataclass
class Transport:
    """Each call is done at once; a row whose first token is in `deadly` ends the replica, one in `refused` is refused."""

    deadly: Counter[int] = field(default_factory=Counter)
    refused: frozenset[int] = frozenset()
    broken: str = ""
    started: int = 0
    closed: int = 0
    asked: list[tuple[int, Any]] = field(default_factory=list)

    def start(self, number: int) -> int:
        self.started += 1
        return number

    def call(self, replica: int, method: str, *arguments: Any) -> Any:
        if method != "score":
            return [ModelError(self.broken) if self.broken else ReplicaInfo("here", replica)]
        (rows,) = arguments
        self.asked.append((replica, rows))
        for row in rows:
            first = row.token_ids[0]
            if self.deadly[first] > 0:
                self.deadly[first] -= 1
                return [ReplicaLostError("killed by signal 9")]
            if first in self.refused:
                return [ModelError("a token is beyond the vocabulary")]
        return [[[float(sum(row.token_ids))] for row in rows]]

    def wait(self, calls: Sequence[Any], timeout_s: float) -> list[Any]:
        return list(calls)

    def result(self, call: Any) -> Any:
        if isinstance(call[0], Exception):
            raise call[0]
        return call[0]

    def silent_for(self, replica: int) -> float | None:
        return None

    def share(self, chunk: Any) -> Any:
        raise AssertionError("a reward model's weights do not change")

    def stop(self, replica: int) -> None:
        pass

    def close(self) -> None:
        self.closed += 1


def replicated(transport: Transport, count: int = 2, restarts: int = 5) -> ReplicatedScores:
    budget = RestartBudget(restarts, 600)
    return ReplicatedScores(ReplicaPool(transport, count, budget, 60.0, ask="score", section="reward.options.x"))


def batches(count: int) -> list[list[TokenRow]]:
    return [[TokenRow((number, size)) for size in range(number % 3 + 1)] for number in range(count)]


def sums(asked: list[list[TokenRow]]) -> list[list[list[float]]]:
    return [[[float(sum(row.token_ids))] for row in rows] for rows in asked]


@pytest.mark.parametrize("count", [1, 2, 5])
def test_numbers_come_in_order_and_every_replica_works(count: int) -> None:
    transport = Transport()
    scores = replicated(transport, count)
    assert scores.logits(batches(12)) == sums(batches(12))
    assert {replica for replica, _ in transport.asked} == set(range(count))
    assert scores.logits([]) == []


def test_a_replica_that_dies_costs_no_answer_and_is_started_anew() -> None:
    transport = Transport(deadly=Counter({4: 2, 7: 1}))
    scores = replicated(transport)
    assert scores.logits(batches(12)) == sums(batches(12))
    assert (transport.started, scores.num_restarts) == (5, 3)


def test_a_batch_that_no_replica_survives_is_given_up() -> None:
    scores = replicated(Transport(deadly=Counter({4: 99})))
    with pytest.raises(
        RewardError, match=r"2 answers brought down 3 replicas of the reward model .* killed by signal 9"
    ):
        scores.logits(batches(12))
    assert scores.logits(batches(3)) == sums(batches(3))  # the others go on


def test_without_a_replica_left_the_run_ends_naming_the_option() -> None:
    scores = replicated(Transport(deadly=Counter({4: 99})), count=1, restarts=1)
    with pytest.raises(ClusterError, match=r"no replica is left: .*reward\.options\.x\.max_restarts"):
        scores.logits(batches(12))


def test_what_a_replica_refuses_is_told_as_it_is() -> None:
    scores = replicated(Transport(refused=frozenset({5})))
    with pytest.raises(ModelError, match="a token is beyond the vocabulary"):
        scores.logits(batches(12))
    assert scores.logits(batches(3)) == sums(batches(3))


def test_a_model_that_does_not_load_is_told_at_the_start_and_everything_is_closed() -> None:
    transport = Transport(broken="no head")
    with pytest.raises(ModelError, match="no head"):
        replicated(transport)
    assert transport.closed == 1
