"""A folder in which peft keeps an adapter (Hu et al. 2021, arXiv:2106.09685): reading it, and merging it into its base model.

adapter_config.json          the base model, ranks and alphas
adapter_model.safetensors    base_model.model.<layer>.lora_A.weight, ...lora_B.weight
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rlkit.errors import ModelError

if TYPE_CHECKING:
    from torch import Tensor

    from rlkit.types.adapter import AdapterWeights

CONFIG_FILE = "adapter_config.json"
WEIGHTS_FILE = "adapter_model.safetensors"
_PREFIX = "base_model.model."
_TENSOR = re.compile(r"(?P<layer>.+)\.(?P<side>lora_[AB])\.weight")

UNSUPPORTED = ("use_dora", "lora_bias", "modules_to_save", "layer_replication", "alora_invocation_tokens")
"""Settings with which an adapter is more than two matrices for each layer."""

PLAIN_STARTS = (True, False, "gaussian", "eva", "orthogonal")
"""Values of init_lora_weights that leave the base model as it is."""


def is_adapter_folder(folder: Path) -> bool:
    """Whether `folder` holds an adapter and no model."""
    return (folder / CONFIG_FILE).is_file() and not (folder / "config.json").is_file()


def base_model_of(folder: Path) -> str:
    """The base model's folder or Hub id. Raises `ModelError` when adapter_config.json names none."""
    base = read_adapter_config(folder).get("base_model_name_or_path")
    if not base:
        raise ModelError(
            f"'{folder / CONFIG_FILE}' names no base model; write its folder or Hub id under base_model_name_or_path"
        )
    return str(base)


def read_adapter_config(folder: Path) -> Mapping[str, Any]:
    """Raises `ModelError` for a damaged file and for an adapter that is not plain LoRA."""
    path = folder / CONFIG_FILE
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
        kind, rank, alpha = config["peft_type"], config["r"], config["lora_alpha"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ModelError(
            f"'{path}' is not the configuration of a LoRA adapter: {type(error).__name__}: {error}"
        ) from error
    wrong = [f"{name} = {config[name]}" for name in UNSUPPORTED if config.get(name)]
    wrong += [f"init_lora_weights = {config['init_lora_weights']}"] if _changes_the_base(config) else []
    wrong += [f"bias = {config['bias']}"] if config.get("bias", "none") != "none" else []
    wrong += [f"peft_type = {kind}"] if kind != "LORA" else []
    if wrong:
        raise ModelError(
            f"the adapter in '{folder}' has {wrong[0]}, and rlkit takes plain LoRA only; merge it into its base model with "
            "peft's merge_and_unload and give that folder"
        )
    if not (isinstance(rank, int) and rank > 0 and isinstance(alpha, int | float)):
        raise ModelError(f"'{path}' has r = {rank!r} and lora_alpha = {alpha!r}; numbers above 0 were expected")
    return dict(config)


def read_adapter(folder: Path) -> AdapterWeights:
    """Its matrices as they are stored. Layers with an alpha of their own have it in B, which is then float32.

    Raises `ModelError` for tensors that are no LoRA matrices of linear layers.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    from rlkit.types.adapter import AdapterWeights

    config = read_adapter_config(folder)
    path = folder / WEIGHTS_FILE
    try:
        tensors = load_file(path)
    except (OSError, SafetensorError) as error:
        raise ModelError(f"the adapter in '{folder}' has no readable {WEIGHTS_FILE}: {error}") from error
    scale = _scale(config, config["r"], config["lora_alpha"])
    named: list[tuple[str, Tensor]] = []
    for name, tensor in tensors.items():
        match = _TENSOR.fullmatch(name.removeprefix(_PREFIX))
        if match is None:
            raise ModelError(f"'{path}' has a tensor '{name}' that is no LoRA matrix of a linear layer")
        own = layer_scale(config, match["layer"])
        if match["side"] == "lora_B" and own != scale:
            tensor = tensor.float() * (own / scale)
        named.append((f"{match['layer']}.{match['side']}", tensor))
    try:
        return AdapterWeights.from_named_tensors(scale, named)
    except ValueError as error:
        raise ModelError(f"'{path}': {error}") from error


def layer_scale(config: Mapping[str, Any], layer: str) -> float:
    """alpha / rank of one layer, which rank_pattern and alpha_pattern may give numbers of its own."""
    rank = _of_pattern(config.get("rank_pattern"), layer, config["r"])
    return _scale(config, rank, _of_pattern(config.get("alpha_pattern"), layer, config["lora_alpha"]))


def merged_weights(
    base: Iterable[tuple[str, Tensor]], adapter: AdapterWeights, *, transposed: bool = False
) -> Iterator[tuple[str, Tensor]]:
    """The base model's tensors with W + scale * B A, float32, where the adapter has a layer; one at a time.

    transposed: adapted weights are stored [inputs, outputs]. Raises `ModelError` for a layer that does not fit.
    """
    waiting = dict(adapter.layers)
    for name, tensor in base:
        matrices = waiting.pop(name.removesuffix(".weight"), None)
        if matrices is None:
            yield name, tensor
            continue
        down, up = (matrix.float().to(tensor.device) for matrix in matrices)
        delta = adapter.scale * (up @ down)
        delta = delta.T if transposed else delta
        if delta.shape != tensor.shape:
            raise ModelError(
                f"the adapter's layer '{name.removesuffix('.weight')}' is {list(delta.shape)}, the base model's "
                f"{list(tensor.shape)}; is it the adapter's own base model?"
            )
        yield name, tensor.float() + delta
    if waiting:
        raise ModelError(
            f"the base model has no tensor '{next(iter(waiting))}.weight', which the adapter changes; is it the adapter's "
            "own base model?"
        )


def _changes_the_base(config: Mapping[str, Any]) -> bool:
    return config.get("init_lora_weights", True) not in PLAIN_STARTS


def _scale(config: Mapping[str, Any], rank: int, alpha: float) -> float:
    """Rank-stabilised LoRA (Kalajdzievski 2023, arXiv:2312.03732) divides by the root."""
    return alpha / math.sqrt(rank) if config.get("use_rslora") else alpha / rank


def _of_pattern(pattern: Mapping[str, Any] | None, layer: str, default: Any) -> Any:
    """As peft looks it up: the first key that the layer's name ends with, at a dot."""
    for key, value in (pattern or {}).items():
        if re.fullmatch(rf"(.*\.)?({key})", layer):
            return value
    return default
