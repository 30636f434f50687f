"""How a reference follows the actor."""

from __future__ import annotations

from dataclasses import dataclass

from rlkit.protocols import MovingReference, PolicyActor


@dataclass(frozen=True)
class ReferenceCourse:
    """After every `every` iterations: reference = decay * reference + (1 - decay) * actor.

    A periodic refresh has decay 0; a moving average has every 1.
    """

    reference: MovingReference
    every: int = 1
    decay: float = 0.0

    def is_due(self, iterations: int) -> bool:
        """Whether the reference moves after `iterations` iterations in all."""
        return iterations % self.every == 0

    def follow(self, actor: PolicyActor, iterations: int) -> dict[str, float]:
        """Move the reference if it is due after `iterations` iterations in all; how often it has moved so far."""
        if self.is_due(iterations):
            self.reference.update_weights(actor.export_weights(), decay=self.decay)
        return {"reference/updates": float(iterations // self.every)}
