"""How token losses become one number, so that the split into micro-batches never matters."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from torch import Tensor

from rlkit.algos.masked import row_sums

AggregationMode = Literal[
    "token_mean", "seq_mean_token_sum", "seq_mean_token_mean", "seq_mean_token_sum_norm", "token_sum"
]


@dataclass(frozen=True)
class Denominators:
    """Counts over the whole mini-batch, over all ranks.

    tokens     tokens in the loss mask
    sequences  answers with at least one such token
    """

    tokens: float
    sequences: float

    @classmethod
    def of(cls, mask: Tensor) -> Denominators:
        """Counts of a loss mask [B, R]."""
        return cls(tokens=float(mask.sum()), sequences=float(mask.any(dim=1).sum()))


@dataclass(frozen=True)
class Aggregation:
    """token_mean: all tokens weigh the same. seq_mean_token_sum: mean over answers of their token sum.
    seq_mean_token_mean: mean over answers of their token mean. seq_mean_token_sum_norm: token sum over all answers
    divided by (answers x horizon) (Liu et al. 2025, Dr. GRPO, arXiv:2503.20783). token_sum: the plain sum.

    Answers without any token in the mask leave the means over answers.
    """

    mode: AggregationMode = "token_mean"
    horizon: int = 1  # tokens; used by seq_mean_token_sum_norm only

    def __call__(self, token_losses: Tensor, mask: Tensor, denominators: Denominators) -> Tensor:
        """This micro-batch's share of the mini-batch's loss: shares of all micro-batches add up to it.

        token_losses [B, R], mask [B, R] bool; scalar out.
        """
        sums = row_sums(token_losses, mask)
        tokens, sequences = max(denominators.tokens, 1.0), max(denominators.sequences, 1.0)
        match self.mode:
            case "token_mean":
                return sums.sum() / tokens
            case "seq_mean_token_sum":
                return sums.sum() / sequences
            case "seq_mean_token_mean":
                return (sums / mask.sum(dim=1).clamp(min=1)).sum() / sequences
            case "seq_mean_token_sum_norm":
                return sums.sum() / (sequences * self.horizon)
            case "token_sum":
                return sums.sum()
