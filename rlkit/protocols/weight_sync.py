"""How new weights get from the actor to the rollout engine."""

from __future__ import annotations

from typing import Protocol

from rlkit.protocols.actor import PolicyActor
from rlkit.protocols.rollout_engine import RolloutEngine


class WeightSync(Protocol):
    def push(self, actor: PolicyActor, engine: RolloutEngine, version: int) -> None:
        """Make `engine` answer with the actor's present weights, known as `version`."""
        ...
