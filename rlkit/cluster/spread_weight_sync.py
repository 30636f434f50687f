"""Weight movement from an actor that is spread over workers; the driver never holds a tensor."""

from __future__ import annotations

from typing import cast

from rlkit.cluster.ray_workers import RayWorkerGroup
from rlkit.cluster.replicated_engine import ReplicatedEngine
from rlkit.cluster.spread_models import SpreadModel, exported_model
from rlkit.cluster.weight_sync import takes_adapters
from rlkit.protocols import PolicyActor, RolloutEngine
from rlkit.protocols.adapters import AdapterEngine


class HybridWeightSync:
    """For an engine in the actor's own worker processes: each rank hands the gathered tensors on to its engine."""

    def push(self, actor: PolicyActor, engine: RolloutEngine, version: int) -> None:
        cast(ReplicatedEngine, engine).take_weights(_model_of(actor).name, version)


class SharedWeightSync:
    """For replicas in processes of their own: rank 0 puts the tensors into shared memory, where the replicas read them."""

    def push(self, actor: PolicyActor, engine: RolloutEngine, version: int) -> None:
        model = _model_of(actor)
        adapter = model.export_adapter() if takes_adapters(engine) else None
        if adapter is not None:
            cast(AdapterEngine, engine).update_adapter(adapter, version)
            return
        group = cast(RayWorkerGroup, model.group)
        model.group.call("begin_export", model.name, model.chunk_bytes)
        cast(ReplicatedEngine, engine).update_shared_weights(
            iter(lambda: group.shared_chunk(model.name), None), version
        )


def _model_of(actor: PolicyActor) -> SpreadModel:
    model = exported_model(actor.export_weights())
    if model is None:
        raise TypeError(f"{type(actor).__name__} is not spread over workers")
    return model
