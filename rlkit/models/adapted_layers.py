"""The layers of a model that adapters go on."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import nn

from rlkit.errors import ModelError
from rlkit.models.suggestion import did_you_mean

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rlkit.protocols.family import ModelHead

ALL_LINEAR = "all_linear"


def choose_layers(model: Any, targets: Sequence[str], *, key: str = "lora.targets") -> dict[str, nn.Module]:
    """Linear layers by name: all but the output head, or those whose name ends with one of `targets`.

    Raises `ModelError` for a target without a layer; `key` names the setting.
    """
    from transformers.pytorch_utils import Conv1D

    head = model.get_output_embeddings()
    linear = {
        name: layer
        for name, layer in model.named_modules()
        if isinstance(layer, nn.Linear | Conv1D) and layer is not head
    }
    if tuple(targets) == (ALL_LINEAR,):
        return linear
    chosen: dict[str, nn.Module] = {}
    for target in targets:
        found = {name: layer for name, layer in linear.items() if f".{name}".endswith(f".{target}")}
        if not found:
            known = sorted({name.rpartition(".")[2] for name in linear})
            raise ModelError(
                f"{key}: {type(model).__name__} has no linear layer '{target}' besides its head; its layers: "
                f"{', '.join(known)}{did_you_mean(target, [*known, *linear])}"
            )
        chosen |= found
    return chosen


def check_targets(folder: Path, targets: Sequence[str], *, key: str, head: ModelHead, trust_remote_code: bool) -> None:
    """Raises `ModelError` for a target that the model in `folder` has no layer for; reads no weights and takes no memory.

    A model that transformers cannot build is left to whoever builds it.
    """
    import torch

    from rlkit.models.causal import build_model

    try:
        module: Any = build_model(
            folder, head=head, dtype=torch.float32, device="meta", trust_remote_code=trust_remote_code
        )
    except ModelError:
        return
    choose_layers(module.model if head == "value" else module, targets, key=key)
