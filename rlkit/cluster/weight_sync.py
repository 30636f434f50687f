"""Weight movement between an actor and an engine."""

from __future__ import annotations

from rlkit.protocols import PolicyActor, RolloutEngine


class DirectWeightSync:
    """Hands the adapter over where the actor trains one and the engine takes it; else each full tensor as it is exported,
    so that at most one is held at a time.
    """

    def push(self, actor: PolicyActor, engine: RolloutEngine, version: int) -> None:
        export_adapter = getattr(actor, "export_adapter", None)
        adapter = export_adapter() if export_adapter is not None and takes_adapters(engine) else None
        if adapter is None:
            engine.update_weights(actor.export_weights(), version)
        else:
            engine.update_adapter(adapter, version)  # type: ignore[attr-defined]


def takes_adapters(engine: object) -> bool:
    """Whether `engine` has what `rlkit.protocols.adapters.AdapterEngine` says, and says so."""
    return bool(getattr(engine, "takes_adapters", False))
