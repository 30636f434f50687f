"""Weight movement between an actor and an engine in one process."""

from __future__ import annotations

from rlkit.protocols import PolicyActor, RolloutEngine


class DirectWeightSync:
    """Hands each full tensor over as it is exported; at most one is held at a time."""

    def push(self, actor: PolicyActor, engine: RolloutEngine, version: int) -> None:
        engine.update_weights(actor.export_weights(), version)
