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
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.distributed.tensor import DTensor

from rlkit.errors import ModelError
from rlkit.models.adapted_layers import ALL_LINEAR, choose_layers
from rlkit.models.value_model import ValueModel
from rlkit.protocols.actor import LoraSettings
from rlkit.protocols.family import ModelFamily
from rlkit.types.adapter import AdapterWeights
from rlkit_fsdp.sharding import Sharding

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
        for parameter in self.trained().values():
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

    def without_layers(self) -> nn.Module:
        """The module's structure with the frozen layers where they were: other objects, the same parameters."""
        return _without_adapters(self.module)

    def merged_weights(self, family: ModelFamily, sharding: Sharding) -> Iterator[tuple[str, Tensor]]:
        """Hugging Face names and full tensors, one at a time. Adapted ones are copies in float32: rounded to bfloat16
        a small step would vanish. The module is not touched."""
        # By place in memory, since a family may give a tensor another name than the module does.
        waiting = {_place(layer.base_layer.weight): name for name, layer in self._layers.items()}
        for name, tensor in family.export_weights(self.without_layers()):
            layer_name = waiting.pop(_place(tensor), None)
            whole = sharding.gathered(tensor)
            yield name, whole if layer_name is None else self._merge(layer_name, whole, sharding)
        if waiting:
            raise ModelError(
                f"the adapter of '{next(iter(waiting.values()))}' cannot be merged: the layer is stored in another "
                "layout than it has in memory; leave it out of lora.targets"
            )

    @torch.no_grad()
    def _merge(self, layer_name: str, weight: Tensor, sharding: Sharding) -> Tensor:
        layer = self._layers[layer_name]
        down, up = (sharding.gathered(side[_NAME].weight) for side in (layer.lora_A, layer.lora_B))
        product = up @ down
        merged: Tensor = weight.float() + (product.T if layer.fan_in_fan_out else product) * layer.scaling[_NAME]
        return merged

    @torch.no_grad()
    def weights(self, sharding: Sharding) -> AdapterWeights:
        """The matrices of each layer, whole; on one rank not copied. Collective."""
        return AdapterWeights(
            self.config.lora_alpha / self.config.r,
            {
                name: (
                    sharding.gathered(layer.lora_A[_NAME].weight.detach()),
                    sharding.gathered(layer.lora_B[_NAME].weight.detach()),
                )
                for name, layer in self._layers.items()
            },
        )

    def trained(self) -> dict[str, Tensor]:
        """Every trained parameter under its name in the module, and nothing that is frozen."""
        return {name: parameter for name, parameter in self.module.named_parameters() if parameter.requires_grad}

    def save_for_peft(self, folder: Path, sharding: Sharding) -> None:
        """`adapter_model.safetensors` and `adapter_config.json`, as `peft.PeftModel.from_pretrained` opens them.

        Collective; only the first rank writes.
        """
        tensors: dict[str, Tensor] = {}
        for name, sides in self.weights(sharding).layers.items():
            for side, matrix in zip(("lora_A", "lora_B"), sides, strict=True):
                tensors[f"base_model.model.{name}.{side}.weight"] = matrix.contiguous().cpu()
        if sharding.ranks.rank > 0:
            return
        save_file(tensors, folder / "adapter_model.safetensors", metadata={"format": "pt"})
        config = copy.copy(self.config)
        config.inference_mode = True
        config.target_modules = sorted(config.target_modules)  # peft makes it a set, which has another order each time
        config.save_pretrained(folder)


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
        lora_alpha=settings.alpha,  # type: ignore[arg-type]  # fractions work too
        target_modules=sorted({name.rpartition(".")[2] for name in layers}) if all_linear else list(settings.targets),
        lora_dropout=0.0,
        bias="none",
        fan_in_fan_out=all(isinstance(layer, Conv1D) for layer in layers.values()),
        task_type="CAUSAL_LM",
        base_model_name_or_path=getattr(host.config, "name_or_path", "") or None,
    )
    with torch.random.fork_rng(devices=[]), _with_places(layers):
        torch.manual_seed(seed)
        inject_adapter_in_model(config, host)
    adapted = {name for name, layer in host.named_modules() if hasattr(layer, "lora_A")}
    if adapted != set(layers):
        name = min(adapted ^ set(layers))
        raise ModelError(f"peft cannot adapt {type(host).__name__} as asked ('{name}' differs); name lora.targets")
    return config


@contextmanager
def _with_places(layers: dict[str, nn.Module]) -> Iterator[None]:
    """peft puts an adapter where its layer is: next to a layer without storage it would lose its random start."""
    held = {name: layer.weight for name, layer in layers.items() if layer.weight.device.type == "meta"}
    for name, weight in held.items():
        stand_in = torch.zeros((), dtype=weight.dtype).expand(weight.shape)  # one number, in the weight's shape
        layers[name].weight = nn.Parameter(stand_in, requires_grad=False)
    try:
        yield
    finally:
        for name, weight in held.items():
            layers[name].weight = weight


def _without_adapters(module: nn.Module) -> nn.Module:
    twin = object.__new__(type(module))  # FSDP's classes cannot be copied
    twin.__dict__.update(module.__dict__)
    twin._modules = {
        name: None if child is None else _without_adapters(_frozen(child)) for name, child in module._modules.items()
    }
    return twin


def _frozen(layer: nn.Module) -> nn.Module:
    """The layer under an adapter, or any other module itself."""
    inner = getattr(layer, "base_layer", layer) if hasattr(layer, "lora_A") else layer
    assert isinstance(inner, nn.Module)
    return inner


def _place(tensor: Tensor) -> tuple[int, int, torch.Size]:
    """Of a rank's part, which may be empty: by its storage, which never is."""
    part = tensor.to_local() if isinstance(tensor, DTensor) else tensor
    return part.untyped_storage().data_ptr(), int(part.storage_offset()), tensor.shape
