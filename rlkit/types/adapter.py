"""An adapter of low rank (Hu et al. 2021, arXiv:2106.09685), apart from the model that it belongs to."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

SIDES = ("lora_A", "lora_B")


@dataclass(frozen=True, eq=False)
class AdapterWeights:
    """What is added to linear layers: y = W x + scale * B A x.

    scale   alpha / rank
    layers  name of the layer, as in the model's own parameters without `.weight` -> (A [rank, inputs], B [outputs, rank]);
            the ranks may differ
    """

    scale: float
    layers: Mapping[str, tuple[Tensor, Tensor]]

    @property
    def rank(self) -> int:
        """The largest of the layers' ranks."""
        return max(int(a.shape[0]) for a, _ in self.layers.values())

    def named_tensors(self) -> Iterator[tuple[str, Tensor]]:
        """`model.layers.0.mlp.up_proj.lora_A`, ...: the tensors one by one, not copied."""
        for name, matrices in self.layers.items():
            for side, matrix in zip(SIDES, matrices, strict=True):
                yield f"{name}.{side}", matrix

    @classmethod
    def from_named_tensors(cls, scale: float, named_tensors: Iterable[tuple[str, Tensor]]) -> AdapterWeights:
        """Undo `named_tensors`. Raises `ValueError` for a layer that has only one of its matrices."""
        found: dict[str, dict[str, Tensor]] = {}
        for name, tensor in named_tensors:
            layer, _, side = name.rpartition(".")
            found.setdefault(layer, {})[side] = tensor
        for layer, sides in found.items():
            if set(sides) != set(SIDES):
                raise ValueError(f"layer '{layer}' of an adapter has {', '.join(sides)}; expected lora_A and lora_B")
        return cls(scale, {layer: (sides["lora_A"], sides["lora_B"]) for layer, sides in found.items()})
