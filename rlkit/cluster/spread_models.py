"""Models that are spread over the ranks of a group, as the loops know them: each rank is sent the rows it works on only.

whole batch --balanced by tokens--> one shard for each rank --the same method on all ranks--> results in row order

Where several ranks hold one copy of a model they are sent the same shard, and the first of them answers.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from torch import Tensor

from rlkit.algos.joint_objective import JointObjective
from rlkit.algos.objective import PolicyObjective, ValueObjective
from rlkit.cluster.spread_save import SpreadSave, check_written
from rlkit.cluster.weight_chunks import tensors_of, weight_chunks
from rlkit.cluster.worker_group import WorkerGroup
from rlkit.data.sharding import Shards, balanced_shards, in_row_order
from rlkit.protocols import PendingSave
from rlkit.protocols.actor import LogProbs, Metrics, RowShare
from rlkit.types import Experience, Ragged, Rollouts, SupervisedBatch
from rlkit.types.adapter import AdapterWeights

Batch = TypeVar("Batch", Rollouts, Experience, SupervisedBatch)


class SpreadModel:
    """What all of them share; `name` is the model's on the ranks. row_shares: of each rank; None: rows of its own."""

    def __init__(
        self, group: WorkerGroup, name: str, *, chunk_bytes: int, row_shares: Sequence[RowShare] | None = None
    ) -> None:
        self.group = group
        self.name = name
        self.chunk_bytes = chunk_bytes
        self.row_shares = row_shares or [RowShare(rank, group.size) for rank in range(group.size)]

    def shards(self, lengths: Sequence[int]) -> list[list[int]]:
        """Row numbers of each share, about equally many tokens of rows with `lengths`."""
        return balanced_shards(lengths, self.row_shares[0].count)

    def export_weights(self) -> Iterator[tuple[str, Tensor]]:
        """Gathered when they are read, unless whoever takes them asks for `exported_model` instead."""
        return _Exported(self)

    def gathered_weights(self) -> Iterator[tuple[str, Tensor]]:
        """Rank 0's, in pieces of `chunk_bytes`; the others help to gather each tensor."""
        self.group.call("begin_export", self.name, self.chunk_bytes)
        while (chunk := self.group.next_chunk(self.name)) is not None:
            yield from tensors_of(chunk)

    def export_adapter(self) -> AdapterWeights | None:
        """The adapter alone; None for a role without `lora`, or where the backend does not export any."""
        if not self.group.call("offers", self.name, "export_adapter")[0]:
            return None
        calls: list[tuple[Any, ...]] = [
            (self.name, "export_adapter", (), {}, rank == 0) for rank in range(self.group.size)
        ]
        found: AdapterWeights | None = self.group.scatter("call", calls)[0]
        return found

    def save_adapter(self, folder: Path) -> None:
        """Raises `CheckpointError` when it cannot be written."""
        check_written(self.group.call("save_adapter", self.name, str(folder.absolute())))

    def begin_save(self, folder: Path) -> PendingSave:
        """Every rank writes its own files into `folder`, which all of them must be able to reach."""
        self.group.call("begin_save", self.name, str(folder.absolute()))
        return SpreadSave(self.group, self.name, folder)

    def save(self, folder: Path) -> None:
        self.begin_save(folder).wait()

    def load(self, folder: Path) -> None:
        self._on_all("load", folder.absolute())

    def onload(self) -> None:
        self._on_all("onload")

    def offload(self) -> None:
        self._on_all("offload")

    def _on_all(self, method: str, *arguments: Any, **keywords: Any) -> list[Any]:
        return self.group.call("call", self.name, method, arguments, keywords)

    def _on_shards(self, method: str, batch: Batch, shards: Shards, *arguments: Any, **keywords: Any) -> list[Any]:
        """`method(rows of the rank, *arguments, **keywords)` on every rank; what the first rank of each shard says."""
        parts = [batch.select(shard) for shard in shards]
        answering: dict[int, int] = {}
        for rank, share in enumerate(self.row_shares):
            answering.setdefault(share.index, rank)
        calls = [
            (self.name, method, (parts[share.index], *arguments), keywords, answering[share.index] == rank)
            for rank, share in enumerate(self.row_shares)
        ]
        found = self.group.scatter("call", calls)
        return [found[answering[index]] for index in range(len(parts))]


class SpreadReference(SpreadModel):
    """Implements `ReferenceModel`."""

    def compute_log_probs(self, rollouts: Rollouts, *, temperature: float) -> LogProbs:
        return _log_probs(self, rollouts, temperature=temperature)


class SpreadMovingReference(SpreadReference):
    """Implements `MovingReference`."""

    def update_weights(self, named_tensors: Iterable[tuple[str, Tensor]], *, decay: float = 0.0) -> None:
        """Full tensors go to every rank; those of an actor of the same group never leave the ranks."""
        actor = exported_model(named_tensors)
        if actor is not None and actor.group is self.group:
            self.group.call("update_from", self.name, actor.name, {"decay": decay})
            return
        chunks = tuple(map(self.group.share, weight_chunks(named_tensors, self.chunk_bytes)))
        self.group.call("update_weights", self.name, {"decay": decay}, chunks)


class SpreadActor(SpreadModel):
    """Implements `PolicyActor`."""

    def compute_log_probs(
        self, rollouts: Rollouts, *, temperature: float, probability_squares: bool = False
    ) -> LogProbs:
        return _log_probs(self, rollouts, temperature=temperature, probability_squares=probability_squares)

    def update_policy(self, experience: Experience, objective: PolicyObjective, *, temperature: float) -> Metrics:
        prepared = _prepared(self, experience, objective, temperature)
        return _updated(self, "update_policy", prepared, objective, temperature=temperature)

    def base_policy(self) -> SpreadReference | None:
        return _base_policy(self)


class SpreadCritic(SpreadModel):
    """Implements `Critic`."""

    def compute_values(self, rollouts: Rollouts) -> Ragged:
        return _values(self, rollouts)

    def update_values(self, experience: Experience, objective: ValueObjective) -> Metrics:
        return _updated(self, "update_values", experience, objective)


class SpreadActorCritic(SpreadModel):
    """Implements `ActorCritic`."""

    def compute_log_probs(
        self, rollouts: Rollouts, *, temperature: float, probability_squares: bool = False
    ) -> LogProbs:
        return _log_probs(self, rollouts, temperature=temperature, probability_squares=probability_squares)

    def compute_values(self, rollouts: Rollouts) -> Ragged:
        return _values(self, rollouts)

    def compute_log_probs_and_values(
        self, rollouts: Rollouts, *, temperature: float, probability_squares: bool = False
    ) -> tuple[LogProbs, Ragged]:
        shards = self.shards(row_lengths(rollouts))
        found = self._on_shards(
            "compute_log_probs_and_values", rollouts, shards,
            temperature=temperature, probability_squares=probability_squares,
        )  # fmt: skip
        values = in_row_order([values for _, values in found], shards)
        return _joined([log_probs for log_probs, _ in found], shards), values

    def update_jointly(self, experience: Experience, objective: JointObjective, *, temperature: float) -> Metrics:
        prepared = _prepared(self, experience, objective, temperature)
        return _updated(self, "update_jointly", prepared, objective, temperature=temperature)

    def update_head(self, experience: Experience, objective: ValueObjective) -> Metrics:
        return _updated(self, "update_head", experience, objective)

    def base_policy(self) -> SpreadReference | None:
        return _base_policy(self)


class SpreadTrainee(SpreadModel):
    """Implements `SupervisedTrainee`."""

    def update_supervised(self, batch: SupervisedBatch) -> Metrics:
        metrics: Metrics = self._on_shards("update_supervised", batch, self._shards(batch))[0]
        return metrics

    def evaluate(self, batch: SupervisedBatch) -> tuple[float, int]:
        found: tuple[float, int] = self._on_shards("evaluate", batch, self._shards(batch))[0]
        return found

    def _shards(self, batch: SupervisedBatch) -> list[list[int]]:
        return self.shards(batch.token_ids.lengths.tolist())


@dataclass(eq=False)
class _Exported(Iterator[tuple[str, Tensor]]):
    """A model's weights, read from its ranks when somebody does; who can take them there asks for `model` instead."""

    model: SpreadModel
    _tensors: Iterator[tuple[str, Tensor]] | None = None

    def __next__(self) -> tuple[str, Tensor]:
        if self._tensors is None:
            self._tensors = self.model.gathered_weights()
        return next(self._tensors)


def exported_model(named_tensors: Iterable[tuple[str, Tensor]]) -> SpreadModel | None:
    """Whose weights these are, where they have not left its ranks yet."""
    return named_tensors.model if isinstance(named_tensors, _Exported) and named_tensors._tensors is None else None


def row_lengths(rollouts: Rollouts) -> list[int]:
    """Tokens of each row, prompt and response."""
    lengths: list[int] = (rollouts.prompt_ids.lengths + rollouts.response_ids.lengths).tolist()
    return lengths


def _log_probs(model: SpreadModel, rollouts: Rollouts, **keywords: Any) -> LogProbs:
    shards = model.shards(row_lengths(rollouts))
    return _joined(model._on_shards("compute_log_probs", rollouts, shards, **keywords), shards)


def _joined(parts: Sequence[LogProbs], shards: Shards) -> LogProbs:
    squares = [part.probability_squares for part in parts if part.probability_squares is not None]
    return LogProbs(
        in_row_order([part.log_probs for part in parts], shards),
        in_row_order([part.entropy for part in parts], shards),
        in_row_order(squares, shards) if squares else None,
    )


def _values(model: SpreadModel, rollouts: Rollouts) -> Ragged:
    shards = model.shards(row_lengths(rollouts))
    return in_row_order(model._on_shards("compute_values", rollouts, shards), shards)


def _prepared(
    model: SpreadActor | SpreadActorCritic, experience: Experience, objective: PolicyObjective | JointObjective,
    temperature: float,
) -> Experience:  # fmt: skip
    """The whole mini-batch, before it is split."""
    rollouts = experience.rollouts
    return objective.prepare(experience, lambda: model.compute_log_probs(rollouts, temperature=temperature).log_probs)


def _updated(model: SpreadModel, method: str, experience: Experience, objective: Any, **keywords: Any) -> Metrics:
    shards = model.shards(row_lengths(experience.rollouts))
    metrics: Metrics = model._on_shards(method, experience, shards, objective, **keywords)[0]
    return metrics


def _base_policy(model: SpreadModel) -> SpreadReference | None:
    name = f"{model.name}_base"
    if not model.group.call("find_base_policy", model.name, name)[0]:
        return None
    return SpreadReference(model.group, name, chunk_bytes=model.chunk_bytes, row_shares=model.row_shares)
