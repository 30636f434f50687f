"""Model families: how a model of some architectures is made, loaded and written."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol, runtime_checkable

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

ModelHead = Literal["causal_lm", "value"]
"""causal_lm: next-token logits; value: one number for each position."""


class ModelFamily(Protocol):
    """The plugin's target: constructed without arguments (families have no options)."""

    def presets(self) -> Mapping[str, Mapping[str, Any]]:
        """Named sizes for `rlkit models create --size`: keyword arguments of the transformers config."""
        ...

    def create_config(self, preset: str, overrides: Mapping[str, Any]) -> Any:
        """A transformers config of the family's default architecture, `overrides` on top of the preset."""
        ...

    def build(
        self, folder: Path | Any, *, head: ModelHead, dtype: torch.dtype, device: str, trust_remote_code: bool = False
    ) -> nn.Module:
        """A module in its final type and place. From a folder its parameters are allocated but hold no values until
        `load_weights`; from a config object they are drawn at random.

        A `value` head replaces the language-model head by `score`: Linear(hidden, 1) without bias, initialised to zero.
        """
        ...

    def load_weights(self, module: nn.Module, folder: Path) -> None:
        """Copy the folder's safetensors into `module`, one tensor at a time. Never unpickles.

        Raises `ModelError` for missing, unknown or wrongly shaped tensors; a missing `score.weight` is left as it is.
        """
        ...

    def export_weights(self, module: nn.Module) -> Iterator[tuple[str, Tensor]]:
        """Hugging Face names and tensors, tied ones once."""
        ...

    def save(self, named_tensors: Iterable[tuple[str, Tensor]], config: Any, folder: Path) -> None:
        """Write sharded safetensors, index and config that `AutoModelForCausalLM.from_pretrained` opens."""
        ...


@runtime_checkable
class SuppliesMegatronRecipe(Protocol):
    """A family that says how the actor backend `megatron` builds its architectures; the backend knows the usual ones itself."""

    def megatron_recipe(self, architecture: str) -> object | None:
        """A `rlkit_megatron.recipes.Recipe`; None: the backend's own, if it has one. Only called where the backend is."""
        ...
