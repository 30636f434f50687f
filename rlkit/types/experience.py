"""Rollouts with everything the update needs: it has all of it or it does not exist."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

from rlkit.types.ragged import Ragged
from rlkit.types.rollouts import Rollouts


@dataclass(frozen=True, eq=False)
class Experience:
    """Per-token training signal, every field ragged and aligned with the responses. None means absent by configuration.

    old_log_probs      float32, nats, of the policy that the ratio is taken against
    advantages         float32; exactly zero where loss_mask is False
    loss_mask          bool: response_mask after rejection
    returns            float32, the critic's target; with a critic only
    old_values         float32, the critic's prediction before the update; with a critic only
    ref_log_probs      float32, nats; with a reference only
    importance_weights float32, rollout correction; when configured only
    selected           bool: the tokens that the policy loss chose of this mini-batch; with a loss that chooses only
    """

    rollouts: Rollouts
    old_log_probs: Ragged
    advantages: Ragged
    loss_mask: Ragged
    returns: Ragged | None = None
    old_values: Ragged | None = None
    ref_log_probs: Ragged | None = None
    importance_weights: Ragged | None = None
    selected: Ragged | None = None

    def __len__(self) -> int:
        return len(self.rollouts)

    @property
    def num_loss_tokens(self) -> int:
        """Tokens in the loss mask."""
        return int(self.loss_mask.values.sum())

    def select(self, rows: Sequence[int]) -> Experience:
        """The given rows, in the given order."""
        chosen: dict[str, Any] = {}
        for field in fields(self):
            value = getattr(self, field.name)
            chosen[field.name] = None if value is None else value.select(rows)
        return Experience(**chosen)
