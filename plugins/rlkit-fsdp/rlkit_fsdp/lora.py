"""Adapters of low rank on the linear layers of a frozen model (Hu et al. 2021, arXiv:2106.09685).

    forward          W x + alpha / rank * B A x       peft's layers in the place of the module's linear ones
    switched off     W x                              the same bits as without an adapter
    merged weights   W + alpha / rank * B A           one tensor at a time, the module stays as it is

peft is imported only where a role has `lora`.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from rlkit.errors import CheckpointError, ModelError
from rlkit.models.suggestion import did_you_mean
from rlkit.models.value_model import ValueModel
from rlkit.protocols.actor import LoraSettings
from rlkit.protocols.family import ModelFamily

ADAPTER_FILE = "adapter.safetensors"
"""In a checkpoint: every trained parameter under its name in the module."""

ALL_LINEAR = "all_linear"
_NAME = "default"  # peft's name of an only adapter


class Adapter:
    """The adapter of one module, which is frozen but for it and for a value head."""

    def __init__(self, module: Any, settings: LoraSettings, *, seed: int) -> None:
        """Put adapter layers, float32, into `module`, which gives the same numbers as before.

        Raises `ModelError` for a target that is no linear layer and for a rank that saves nothing.
        """
        self.module = module
        host = module.model if isinstance(module, ValueModel) else module
        layers = choose_layers(host, settings.targets)
        _check_rank(settings.rank, layers)
        module.requires_grad_(False)
        self.config = _inject(host, layers, settings, seed)
        self._layers = {name: host.get_submodule(name) for name in layers}
        for parameter in self._trained().values():
            parameter.data = parameter.data.float()  # peft made them in the type of the layers
        if isinstance(module, ValueModel):
            module.score.float().requires_grad_(True)

    @contextmanager
    def switched_off(self) -> Iterator[None]:
        """The module as it would be without the adapter; not for anything that needs gradients."""
        for layer in self._layers.values():
            layer.enable_adapters(False)
        try:
            yield
        finally:
            for layer in self._layers.values():
                layer.enable_adapters(True)

    def merged_weights(self, family: ModelFamily) -> Iterator[tuple[str, Tensor]]:
        """Hugging Face names and full tensors, one at a time. Adapted ones are copies in float32: rounded to bfloat16
        a small step would vanish. The module is not touched."""
        # By place in memory, since a family may give a tensor another name than the module does.
        waiting = {_place(layer.base_layer.weight): name for name, layer in self._layers.items()}
        for name, tensor in family.export_weights(_without_adapters(self.module)):
            layer_name = waiting.pop(_place(tensor), None)
            yield name, tensor if layer_name is None else self._merge(layer_name, tensor)
        if waiting:
            raise ModelError(
                f"the adapter of '{next(iter(waiting.values()))}' cannot be merged: the layer is stored in another "
                "layout than it has in memory; leave it out of lora.targets"
            )

    @torch.no_grad()
    def _merge(self, layer_name: str, weight: Tensor) -> Tensor:
        merged: Tensor = weight.float() + self._layers[layer_name].get_delta_weight(_NAME)
        return merged

    def save(self, folder: Path) -> None:
        """Every trained parameter, and nothing that is frozen."""
        tensors = {name: parameter.detach().contiguous().cpu() for name, parameter in self._trained().items()}
        save_file(tensors, folder / ADAPTER_FILE)

    @torch.no_grad()
    def load(self, folder: Path) -> None:
        """Undo `save`. Raises `CheckpointError` when what was saved does not fit the adapter."""
        if not (folder / ADAPTER_FILE).is_file():
            raise CheckpointError(
                f"'{folder}' was saved without an adapter; resume with lora.rank = 0, or start a new run"
            )
        tensors, trained = load_file(folder / ADAPTER_FILE), self._trained()
        differing = sorted(tensors.keys() ^ trained.keys()) or [
            name for name, parameter in trained.items() if parameter.shape != tensors[name].shape
        ]
        if differing:
            raise CheckpointError(
                f"the adapter in '{folder}' has another rank or other targets ({differing[0]} differs); resume with the "
                "lora settings of the run, or start a new one"
            )
        for name, parameter in trained.items():
            parameter.copy_(tensors[name])

    def save_for_peft(self, folder: Path) -> None:
        """`adapter_model.safetensors` and `adapter_config.json`, as `peft.PeftModel.from_pretrained` opens them."""
        tensors = {
            f"base_model.model.{name}.{side}.weight": getattr(layer, side)[_NAME].weight.detach().contiguous().cpu()
            for name, layer in self._layers.items()
            for side in ("lora_A", "lora_B")
        }
        save_file(tensors, folder / "adapter_model.safetensors", metadata={"format": "pt"})
        config = copy.copy(self.config)
        config.inference_mode = True
        config.target_modules = sorted(config.target_modules)  # peft makes it a set, which has another order each time
        config.save_pretrained(folder)

    def _trained(self) -> dict[str, nn.Parameter]:
        return {name: parameter for name, parameter in self.module.named_parameters() if parameter.requires_grad}


def choose_layers(model: Any, targets: tuple[str, ...]) -> dict[str, nn.Module]:
    """Linear layers by name: all but the output head, or those whose name ends with one of `targets`.

    Raises `ModelError` for a target without a layer.
    """
    from transformers.pytorch_utils import Conv1D

    head = model.get_output_embeddings()
    linear = {
        name: layer
        for name, layer in model.named_modules()
        if isinstance(layer, nn.Linear | Conv1D) and layer is not head
    }
    if targets == (ALL_LINEAR,):
        return linear
    chosen: dict[str, nn.Module] = {}
    for target in targets:
        found = {name: layer for name, layer in linear.items() if f".{name}".endswith(f".{target}")}
        if not found:
            known = sorted({name.rpartition(".")[2] for name in linear})
            raise ModelError(
                f"lora.targets: {type(model).__name__} has no linear layer '{target}' besides its head; its layers: "
                f"{', '.join(known)}{did_you_mean(target, [*known, *linear])}"
            )
        chosen |= found
    return chosen


def _check_rank(rank: int, layers: dict[str, nn.Module]) -> None:
    largest = max(min(layer.weight.shape) for layer in layers.values())  # type: ignore[arg-type]
    if rank > largest:
        raise ModelError(
            f"lora.rank = {rank} is larger than every adapted matrix is wide ({largest} at most); choose a smaller rank, "
            "or train every parameter (lora.rank = 0)"
        )


def _inject(host: Any, layers: dict[str, nn.Module], settings: LoraSettings, seed: int) -> Any:
    """Replace `layers` of `host` by peft's; returns peft's config. The global random state stays as it was."""
    from peft import LoraConfig, inject_adapter_in_model
    from transformers.pytorch_utils import Conv1D

    all_linear = settings.targets == (ALL_LINEAR,)
    config = LoraConfig(
        r=settings.rank,
        lora_alpha=settings.alpha,
        target_modules=sorted({name.rpartition(".")[2] for name in layers}) if all_linear else list(settings.targets),
        lora_dropout=0.0,
        bias="none",
        fan_in_fan_out=all(isinstance(layer, Conv1D) for layer in layers.values()),
        task_type="CAUSAL_LM",
        base_model_name_or_path=getattr(host.config, "name_or_path", "") or None,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        inject_adapter_in_model(config, host)
    adapted = {name for name, layer in host.named_modules() if hasattr(layer, "lora_A")}
    if adapted != set(layers):
        name = min(adapted ^ set(layers))
        raise ModelError(f"peft cannot adapt {type(host).__name__} as asked ('{name}' differs); name lora.targets")
    return config


def _without_adapters(module: nn.Module) -> nn.Module:
    """The module's structure with the frozen layers where they were: other objects, the same parameters."""
    twin = copy.copy(module)
    twin._modules = {
        name: None if child is None else _without_adapters(child.base_layer if hasattr(child, "lora_A") else child)
        for name, child in module._modules.items()
    }
    return twin


def _place(tensor: Tensor) -> tuple[int, torch.Size]:
    return tensor.data_ptr(), tensor.shape
