"""Metrics added up over micro-batches on the device, and read once."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor


class MetricTotals:
    """Reading a number from a GPU waits for all that was asked of it; so only the totals are read, all together."""

    def __init__(self) -> None:
        self._totals: dict[str, Tensor] = {}

    def add(self, metrics: Mapping[str, Tensor]) -> None:
        """Scalars of one micro-batch."""
        for name, value in metrics.items():
            found = value.detach().double()
            self._totals[name] = self._totals[name] + found if name in self._totals else found

    def read(self) -> dict[str, float]:
        if not self._totals:
            return {}
        return dict(zip(self._totals, torch.stack(list(self._totals.values())).tolist(), strict=True))


def in_area(area: str, metrics: Mapping[str, float]) -> dict[str, float]:
    """`grad_norm` of the actor's optimizer is `actor/grad_norm`."""
    return {f"{area}/{name}": value for name, value in metrics.items()}
