"""What supervised fine-tuning learns from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rlkit.types.ragged import Ragged


@dataclass(frozen=True, eq=False)
class SupervisedBatch:
    """B conversations as token ids.

    token_ids ragged int64
    loss_mask ragged bool aligned with token_ids: True on tokens to be learned (what the assistant says,
              its end-of-turn token included); a True at position 0 has no prediction and is not allowed
    """

    token_ids: Ragged
    loss_mask: Ragged

    def __len__(self) -> int:
        return len(self.token_ids)

    @property
    def num_loss_tokens(self) -> int:
        return int(self.loss_mask.values.sum())

    def select(self, rows: Sequence[int]) -> SupervisedBatch:
        return SupervisedBatch(self.token_ids.select(rows), self.loss_mask.select(rows))
