"""What the learning signal of a step looks like: rewards after shaping and KL, advantages, returns, values."""

from __future__ import annotations

import torch
from torch import Tensor

from rlkit.algos.masked import row_sums


def signal_metrics(
    token_rewards: Tensor, advantages: Tensor, returns: Tensor | None, values: Tensor | None, mask: Tensor
) -> dict[str, float]:
    """All [B, R]; mean, std, min and max of each over the tokens in `mask`, of rewards over the sums of answers with any."""
    metrics = _summary("reward/total_", row_sums(token_rewards, mask)[mask.any(dim=1)])
    metrics |= _summary("advantage/", advantages[mask])
    if returns is not None:
        metrics |= _summary("return/", returns[mask])
    if values is not None:
        metrics |= _summary("value/", values[mask])
    return metrics


def _summary(prefix: str, values: Tensor) -> dict[str, float]:
    """values [n]; zeros where there are none. The spread is that of the values themselves, without a correction."""
    if values.numel() == 0:
        values = torch.zeros(1)
    values = values.double()
    numbers = {"mean": values.mean(), "std": values.std(correction=0), "min": values.min(), "max": values.max()}
    return {f"{prefix}{name}": float(number) for name, number in numbers.items()}
