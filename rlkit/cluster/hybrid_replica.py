"""A rollout engine in the process of the actor's rank: new weights never leave the process."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rlkit.cluster.replica import EngineReplica, ReplicaDescription
from rlkit.cluster.weight_sync import DirectWeightSync


def _no_chunks(reference: Any) -> Any:
    return reference


class HybridReplica(EngineReplica):
    """`models` are those of the rank, by name."""

    def __init__(self, description: ReplicaDescription, models: Mapping[str, Any]) -> None:
        super().__init__(description, _no_chunks)
        self._models = models

    def take_weights(self, model: str, version: int) -> None:
        """Answer with the present weights of `model`; to be called on all ranks together, which gather its shards."""
        DirectWeightSync().push(self._models[model], self._built(), version)
