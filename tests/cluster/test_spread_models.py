"""What each rank is sent, and what comes back; the ranks are objects of this process."""

from __future__ import annotations

import pickle
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import SafetensorError
from torch import Tensor

from rlkit.cluster.spread_models import SpreadActor, SpreadActorCritic, SpreadMovingReference, SpreadTrainee
from rlkit.cluster.worker import TrainingWorker
from rlkit.cluster.worker_group import WorkerLostError
from rlkit.errors import CheckpointError
from rlkit.protocols.actor import LogProbs, RowShare
from rlkit.testing.fakes import FakeEngine, fake_prompts
from rlkit.types import Experience, Ragged, Rollouts, SamplingParams, SupervisedBatch

SHARED: list[Any] = []
"""What stands for shared memory."""


class Worker(TrainingWorker):
    """Reads chunks from `SHARED`."""

    def update_weights(self, name: str, keywords: Mapping[str, Any], chunks: Iterable[int]) -> None:  # type: ignore[override]
        super().update_weights(name, keywords, (SHARED[chunk] for chunk in chunks))


class Group:
    """Implements `WorkerGroup`; arguments are pickled on their way, and `sent` says how many bytes each rank got."""

    call_timeout_s = 0.0

    def __init__(self, size: int, model: type[Any]) -> None:
        self.size = size
        self.workers = [Worker(rank, size) for rank in range(size)]
        self.models = [model() for _ in range(size)]
        for worker, own in zip(self.workers, self.models, strict=True):
            worker._models["model"] = own
        self.sent = [0] * size
        self.silent = [False] * size

    def call(self, method: str, *arguments: Any) -> list[Any]:
        return self.scatter(method, [arguments] * self.size)

    def scatter(self, method: str, arguments: Sequence[tuple[Any, ...]]) -> list[Any]:
        found = []
        for rank, (worker, own) in enumerate(zip(self.workers, arguments, strict=True)):
            packed = pickle.dumps(own)
            self.sent[rank] += len(packed)
            found.append(pickle.loads(pickle.dumps(getattr(worker, method)(*pickle.loads(packed)))))
            self.silent[rank] = found[-1] is None
        return found

    def next_chunk(self, name: str) -> Any:
        return self.call("next_chunk", name)[0][1]

    def share(self, chunk: Any) -> Any:
        SHARED.append(pickle.loads(pickle.dumps(chunk)))
        return len(SHARED) - 1

    def lose(self, rank: int, cause: str) -> Exception:
        return WorkerLostError(f"rank {rank} {cause}")

    def close(self) -> None:
        return


class Model:
    """Answers with the token ids as floats and notes the rows that it was given."""

    def __init__(self) -> None:
        self.rows: list[list[int]] = []
        self.selected: list[Any] = []
        self.weight = torch.tensor([1.0, 2.0])
        self.took: list[tuple[str, float]] = []

    def _floats(self, rollouts: Rollouts) -> Ragged:
        self.rows.append([prompt.row_id for prompt in rollouts.prompts])
        return rollouts.response_ids.with_values(rollouts.response_ids.values.float())

    def compute_log_probs(
        self, rollouts: Rollouts, *, temperature: float, probability_squares: bool = False
    ) -> LogProbs:
        values = self._floats(rollouts)
        return LogProbs(values, values.with_values(values.values + 1), values if probability_squares else None)

    def compute_values(self, rollouts: Rollouts) -> Ragged:
        return self._floats(rollouts)

    def compute_log_probs_and_values(self, rollouts: Rollouts, **keywords: Any) -> tuple[LogProbs, Ragged]:
        return self.compute_log_probs(rollouts, **keywords), self.compute_values(rollouts)

    def update_policy(self, experience: Experience, objective: Any, *, temperature: float) -> dict[str, float]:
        self._floats(experience.rollouts)
        self.selected.append(experience.selected)
        return {"actor/loss": 0.5}

    def update_supervised(self, batch: SupervisedBatch) -> dict[str, float]:
        self.rows.append(batch.token_ids.lengths.tolist())
        return {"sft/loss": 2.0}

    def evaluate(self, batch: SupervisedBatch) -> tuple[float, int]:
        return 7.0, 3

    def export_weights(self) -> Iterator[tuple[str, Tensor]]:
        yield "a", self.weight
        yield "b", self.weight + 10

    def update_weights(self, named_tensors: Iterable[tuple[str, Tensor]], *, decay: float = 0.0) -> None:
        self.took += [(name, float(tensor[0]) * (1 - decay)) for name, tensor in named_tensors]

    def base_policy(self) -> None:
        return None


class Choosing:
    """An objective that chooses tokens of the whole mini-batch: all of the first row."""

    def prepare(self, mini_batch: Experience, compute_log_probs: Any) -> Experience:
        from dataclasses import replace

        log_probs = compute_log_probs()
        assert log_probs.values.tolist() == mini_batch.rollouts.response_ids.values.tolist()
        first = torch.tensor([row == 0 for row in mini_batch.loss_mask.row_index().tolist()])
        return replace(mini_batch, selected=mini_batch.loss_mask.with_values(first))


@pytest.fixture
def rollouts() -> Rollouts:
    """Five rows of unequal lengths; every response token is a number of its own."""
    rows = FakeEngine().generate(fake_prompts(5), SamplingParams(max_tokens=2))
    lengths = [4, 1, 7, 2, 3]
    tokens = Ragged(torch.arange(sum(lengths)), torch.tensor(lengths))
    fields = {**vars(rows), "response_ids": tokens, "response_mask": tokens.with_values(tokens.values >= 0)}
    return Rollouts(**{**fields, "rollout_log_probs": None})


def experience_of(rollouts: Rollouts) -> Experience:
    floats = rollouts.response_ids.with_values(rollouts.response_ids.values.float())
    return Experience(rollouts, floats, floats, rollouts.response_mask)


def test_each_rank_gets_its_own_rows_only_and_results_come_in_row_order(rollouts: Rollouts) -> None:
    group = Group(2, Model)
    found = SpreadActor(group, "model", chunk_bytes=1000).compute_log_probs(
        rollouts, temperature=1.0, probability_squares=True
    )
    shares = [model.rows[0] for model in group.models]
    assert sorted(row for share in shares for row in share) == [0, 1, 2, 3, 4]
    assert all(shares)
    expected = rollouts.response_ids
    for ragged, more in ((found.log_probs, 0), (found.entropy, 1), (found.probability_squares, 0)):
        assert ragged is not None
        assert ragged.lengths.tolist() == expected.lengths.tolist()
        assert ragged.values.tolist() == [value + more for value in expected.values.tolist()]
    alone = Group(1, Model)
    SpreadActor(alone, "model", chunk_bytes=1000).compute_log_probs(rollouts, temperature=1.0)
    assert max(group.sent) < alone.sent[0]


def test_more_ranks_than_rows_leave_some_without_any(rollouts: Rollouts) -> None:
    group = Group(7, Model)
    log_probs, values = SpreadActorCritic(group, "model", chunk_bytes=1000).compute_log_probs_and_values(
        rollouts, temperature=1.0
    )
    assert values.values.tolist() == log_probs.log_probs.values.tolist() == rollouts.response_ids.values.tolist()
    assert [len(model.rows[0]) for model in group.models].count(0) == 2


def test_ranks_that_hold_a_model_together_get_the_same_rows_and_one_of_them_answers(rollouts: Rollouts) -> None:
    group = Group(4, Model)
    shares = [RowShare(index, 2) for index in (0, 0, 1, 1)]
    actor = SpreadActor(group, "model", chunk_bytes=1000, row_shares=shares)
    found = actor.compute_log_probs(rollouts, temperature=1.0)
    assert found.log_probs.values.tolist() == rollouts.response_ids.values.tolist()
    rows = [model.rows[0] for model in group.models]
    assert rows[0] == rows[1] and rows[2] == rows[3]
    assert sorted(rows[0] + rows[2]) == [0, 1, 2, 3, 4]
    assert group.silent == [False, True, False, True]


def test_a_rank_says_which_rows_it_works_on() -> None:
    plain, sharing = Worker(1, 2), Worker(1, 2)
    sharing._backend = SharingBackend()
    assert plain.row_share() == RowShare(1, 2)
    assert sharing.row_share() == RowShare(0, 1)


class SharingBackend:
    """Both of two ranks hold one model."""

    def row_share(self) -> RowShare:
        return RowShare(0, 1)


def test_tokens_are_chosen_of_the_whole_mini_batch_before_it_is_split(rollouts: Rollouts) -> None:
    group = Group(2, Model)
    actor = SpreadActor(group, "model", chunk_bytes=1000)
    assert actor.update_policy(experience_of(rollouts), Choosing(), temperature=1.0) == {"actor/loss": 0.5}  # type: ignore[arg-type]
    for model in group.models:
        rows = model.rows[-1]
        chosen = [bool(row.all()) for row in model.selected[0].rows()]
        assert chosen == [row == 0 for row in rows]


def test_a_batch_of_conversations_is_balanced_by_tokens() -> None:
    lengths = torch.tensor([9, 1, 1, 7])
    tokens = Ragged(torch.arange(18), lengths)
    batch = SupervisedBatch(tokens, tokens.with_values(torch.ones(18, dtype=torch.bool)))
    group = Group(2, Model)
    trainee = SpreadTrainee(group, "model", chunk_bytes=1000)
    assert trainee.update_supervised(batch) == {"sft/loss": 2.0}
    assert [model.rows[0] for model in group.models] == [[9], [1, 1, 7]]
    assert trainee.evaluate(batch) == (7.0, 3)


def test_weights_are_those_of_the_first_rank() -> None:
    group = Group(2, Model)
    group.models[1].weight += 100
    found = dict(SpreadActor(group, "model", chunk_bytes=8).export_weights())
    assert {name: tensor.tolist() for name, tensor in found.items()} == {"a": [1.0, 2.0], "b": [11.0, 12.0]}


def test_a_reference_beside_the_actor_takes_its_weights_without_the_driver() -> None:
    group = Group(2, Model)
    for worker in group.workers:
        worker._models["reference"] = Model()
    reference = SpreadMovingReference(group, "reference", chunk_bytes=1000)
    before = sum(group.sent)
    reference.update_weights(SpreadActor(group, "model", chunk_bytes=1000).export_weights(), decay=0.5)
    assert all(worker._models["reference"].took == [("a", 0.5), ("b", 5.5)] for worker in group.workers)
    assert sum(group.sent) - before < 500
    foreign = [("c", torch.tensor([3.0])), ("d", torch.tensor([4.0]))]
    reference.update_weights(iter(foreign))
    assert all(worker._models["reference"].took[2:] == [("c", 3.0), ("d", 4.0)] for worker in group.workers)


def test_weights_from_elsewhere_are_shared_once_for_all_ranks() -> None:
    group, others = Group(3, Model), Group(1, Model)
    reference = SpreadMovingReference(group, "model", chunk_bytes=8)
    group.sent, before = [0] * 3, len(SHARED)
    others.models[0].weight = torch.ones(1000)
    reference.update_weights(SpreadActor(others, "model", chunk_bytes=8).export_weights(), decay=0.5)
    assert [model.took for model in group.models] == [[("a", 0.5), ("b", 5.5)]] * 3
    assert [chunk.data.nbytes for chunk in SHARED[before:]] == [4000, 4000]
    assert max(group.sent) < 500


@pytest.mark.parametrize("error", [OSError("no room"), SafetensorError("no room")])
def test_an_adapter_that_cannot_be_written_is_no_fault_of_the_rank(tmp_path: Path, error: Exception) -> None:
    def save_adapter(folder: Path) -> None:
        raise error

    group = Group(2, Model)
    group.models[0].save_adapter = save_adapter
    group.models[1].save_adapter = lambda folder: None
    with pytest.raises(CheckpointError, match=r"^rank 0: \w+: no room$"):
        SpreadActor(group, "model", chunk_bytes=1000).save_adapter(tmp_path)


def test_a_model_without_an_adapter_has_no_base_policy() -> None:
    actor = SpreadActor(Group(2, Model), "model", chunk_bytes=1000)
    assert actor.base_policy() is None
    assert actor.export_adapter() is None
