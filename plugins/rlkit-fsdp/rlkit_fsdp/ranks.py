"""The processes that hold a model together, and the little that they tell each other besides tensors of the model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
import torch.distributed as dist


@dataclass(frozen=True)
class Ranks:
    """This process among those of torch.distributed's default group; one alone where there is no group."""

    rank: int
    size: int
    device: str  # of the tensors that are exchanged: the group's transport has to support it

    @classmethod
    def of_this_process(cls, device: str) -> Ranks:
        if not (dist.is_available() and dist.is_initialized()):
            return cls(0, 1, device)
        return cls(dist.get_rank(), dist.get_world_size(), device)

    def sums(self, values: Sequence[float]) -> list[float]:
        """Each value summed over the ranks, in float64; every rank gives as many and gets the same ones back."""
        if self.size == 1 or not values:
            return list(values)
        tensor = torch.tensor(values, dtype=torch.float64, device=self.device)
        dist.all_reduce(tensor)
        found: list[float] = tensor.tolist()
        return found

    def sums_by_name(self, values: Mapping[str, float]) -> dict[str, float]:
        """As `sums`; every rank gives the same names, in any order."""
        names = sorted(values)
        summed = dict(zip(names, self.sums([values[name] for name in names]), strict=True))
        return {name: summed[name] for name in values}

    def agree(self, batches: list[list[int]], counts: Sequence[float]) -> tuple[list[list[int]], list[float]]:
        """`batches` with empty ones at the end, so that every rank has as many; `counts` summed over the ranks.

        Every forward and backward pass gathers weights from all ranks: one that stopped early would leave the others
        waiting.
        """
        if self.size == 1:
            return batches, list(counts)
        told = torch.tensor([float(len(batches)), *counts], dtype=torch.float64, device=self.device)
        heard = [torch.empty_like(told) for _ in range(self.size)]
        dist.all_gather(heard, told)
        rows = torch.stack(heard)
        missing = int(rows[:, 0].max()) - len(batches)
        summed: list[float] = rows[:, 1:].sum(dim=0).tolist()
        return [*batches, *([] for _ in range(missing))], summed
