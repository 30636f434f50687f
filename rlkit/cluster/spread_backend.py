"""An actor backend whose models are spread over the ranks of a group."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, TypeVar, cast

from rlkit.cluster.spread_models import (
    SpreadActor,
    SpreadActorCritic,
    SpreadCritic,
    SpreadModel,
    SpreadMovingReference,
    SpreadReference,
    SpreadTrainee,
)
from rlkit.cluster.worker_group import WorkerGroup
from rlkit.protocols import ModelFamily, ModelRole
from rlkit.protocols.actor import OptimizerSettings, RowShare

Model = TypeVar("Model", bound=SpreadModel)


class SpreadBackend:
    """Implements `ActorBackend`: the group's own backend builds the models. chunk_bytes: of the weights that travel at once."""

    def __init__(self, group: WorkerGroup, *, chunk_bytes: int) -> None:
        self.group = group
        self._chunk_bytes = chunk_bytes
        self._row_shares: Sequence[RowShare] | None = None

    def build_actor(self, role: ModelRole) -> SpreadActor:
        return self._spread(SpreadActor, self._built("actor", "build_actor", role))

    def build_reference(self, role: ModelRole) -> SpreadReference:
        name = self._built("reference", "build_reference", role)
        return self._spread(SpreadReference, name)

    def build_moving_reference(self, role: ModelRole) -> SpreadMovingReference:
        name = self._built("reference", "build_moving_reference", role)
        return self._spread(SpreadMovingReference, name)

    def build_critic(self, role: ModelRole) -> SpreadCritic:
        return self._spread(SpreadCritic, self._built("critic", "build_critic", role))

    def build_actor_critic(self, role: ModelRole, *, head: OptimizerSettings) -> SpreadActorCritic:
        name = self._built("actor", "build_actor_critic", role, head=head)
        return self._spread(SpreadActorCritic, name)

    def build_supervised(self, role: ModelRole) -> SpreadTrainee:
        return self._spread(SpreadTrainee, self._built("model", "build_supervised", role))

    def _spread(self, kind: type[Model], name: str) -> Model:
        if self._row_shares is None:
            self._row_shares = self.group.call("row_share")
        return kind(self.group, name, chunk_bytes=self._chunk_bytes, row_shares=self._row_shares)

    def _built(self, name: str, method: str, role: ModelRole, **keywords: Any) -> str:
        # Each rank has its own family object and device: a family from a file cannot be sent at all.
        bare = replace(role, path=role.path.resolve(), family=cast(ModelFamily, None), device="")
        self.group.call("build", name, method, bare, keywords)
        return name
