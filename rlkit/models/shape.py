"""What a model looks like, read from config.json and the safetensors headers alone: no torch, no weights."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rlkit.errors import ModelError
from rlkit.models.safetensors_io import INDEX_FILE, SINGLE_FILE, TensorInfo, read_headers

_DTYPES = {"F32": "float32", "BF16": "bfloat16", "F16": "float16", "F64": "float64", "F8_E4M3": "float8_e4m3fn"}


@dataclass(frozen=True)
class ModelShape:
    """Sizes of a decoder-only transformer.

    num_parameters counts tied embeddings once; parameters_by_part adds up to it. Both come from the file headers where
    there are any, else from the config (dense decoder layers with gated MLPs).
    """

    architecture: str
    model_type: str
    num_parameters: int
    parameters_by_part: Mapping[str, int]
    hidden_size: int
    num_layers: int
    num_heads: int
    num_kv_heads: int
    head_dim: int
    intermediate_size: int
    vocab_size: int
    context_length: int
    tied_embeddings: bool
    dtype: str

    @property
    def kv_elements_per_token(self) -> int:
        """Elements that one token adds to the KV cache, over all layers."""
        return 2 * self.num_layers * self.num_kv_heads * self.head_dim


def read_config_json(folder: Path) -> dict[str, Any]:
    """config.json as it is. Raises `ModelError` when it is missing or not a JSON object."""
    path = folder / "config.json"
    if not path.is_file():
        raise ModelError(f"'{folder}' has no config.json, so it is not a model folder")
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, UnicodeDecodeError) as error:
        raise ModelError(f"'{path}' is not valid JSON: {error}") from error
    if not isinstance(config, dict):
        raise ModelError(f"'{path}' holds {type(config).__name__}, expected an object")
    return config


def architecture_of(config: Mapping[str, Any], where: str) -> str:
    """First entry of `architectures`. Raises `ModelError` when there is none."""
    architectures = config.get("architectures")
    if not architectures:
        raise ModelError(
            f'config.json of \'{where}\' names no architectures; add for example "architectures": ["Qwen3ForCausalLM"]'
        )
    return str(architectures[0])


def read_shape(folder: Path) -> ModelShape:
    """Shape of the model in `folder`. Raises `ModelError` for a missing key or a damaged file."""
    config = read_config_json(folder)
    has_weights = (
        (folder / SINGLE_FILE).is_file() or (folder / INDEX_FILE).is_file() or any(folder.glob("*.safetensors"))
    )
    return shape_of(config, str(folder), tensors=read_headers(folder) if has_weights else None)


def shape_of(config: Mapping[str, Any], where: str, *, tensors: Mapping[str, TensorInfo] | None = None) -> ModelShape:
    """Shape described by a config.json's content, with exact parameter counts where `tensors` are known."""
    text = {**config, **config["text_config"]} if isinstance(config.get("text_config"), dict) else config
    heads = _integer(text, where, "num_attention_heads", "n_head")
    hidden = _integer(text, where, "hidden_size", "n_embd")
    tied = bool(config.get("tie_word_embeddings", config.get("model_type") in ("gpt2",)))
    sizes: dict[str, Any] = {
        "hidden_size": hidden,
        "num_layers": _integer(text, where, "num_hidden_layers", "n_layer"),
        "num_heads": heads,
        "num_kv_heads": int(text.get("num_key_value_heads") or heads),
        "head_dim": int(text.get("head_dim") or hidden // heads),
        "intermediate_size": int(text.get("intermediate_size") or text.get("n_inner") or 4 * hidden),
        "vocab_size": _integer(text, where, "vocab_size"),
    }
    parts = _parts_of_tensors(tensors, tied=tied) if tensors else _parts_of_config(sizes, tied=tied)
    return ModelShape(
        architecture=architecture_of(config, where),
        model_type=str(config.get("model_type", "")),
        num_parameters=sum(parts.values()),
        parameters_by_part=parts,
        context_length=_integer(text, where, "max_position_embeddings", "n_positions"),
        tied_embeddings=tied,
        dtype=_dtype_of(config, tensors),
        **sizes,
    )


def _integer(config: Mapping[str, Any], where: str, *keys: str) -> int:
    for key in keys:
        if isinstance(config.get(key), int):
            return int(config[key])
    raise ModelError(
        f"config.json of '{where}' has no {' or '.join(keys)}; only decoder-only transformers are understood"
    )


def _dtype_of(config: Mapping[str, Any], tensors: Mapping[str, TensorInfo] | None) -> str:
    """The type that most of the stored elements have; without files, what the config says."""
    if not tensors:
        return str(config.get("dtype") or config.get("torch_dtype") or "float32")
    elements: dict[str, int] = {}
    for info in tensors.values():
        elements[info.dtype] = elements.get(info.dtype, 0) + info.num_elements
    most = max(elements, key=lambda dtype: elements[dtype])
    return _DTYPES.get(most, most.lower())


def part_of(name: str) -> str:
    """The part of a model that a tensor belongs to, by the words in its name."""
    if "embed" in name or ".wte." in name or ".wpe." in name:
        return "embeddings"
    if "lm_head" in name or name.startswith("score."):
        return "head"
    if "norm" in name or ".ln_" in name:
        return "norms"
    if "attn" in name or "attention" in name:
        return "attention"
    if "mlp" in name or "expert" in name or "feed_forward" in name:
        return "mlp"
    return "other"


def _parts_of_tensors(tensors: Mapping[str, TensorInfo], *, tied: bool) -> dict[str, int]:
    parts: dict[str, int] = {}
    for name, info in tensors.items():
        if tied and name == "lm_head.weight":
            continue
        part = part_of(name)
        parts[part] = parts.get(part, 0) + info.num_elements
    return parts


def _parts_of_config(sizes: Mapping[str, int], *, tied: bool) -> dict[str, int]:
    """Parameters of a dense decoder with gated MLPs and without biases: an estimate when there are no files to count."""
    hidden, layers = sizes["hidden_size"], sizes["num_layers"]
    queries = sizes["num_heads"] * sizes["head_dim"]
    keys = sizes["num_kv_heads"] * sizes["head_dim"]
    parts = {
        "embeddings": sizes["vocab_size"] * hidden,
        "attention": layers * hidden * (2 * queries + 2 * keys),
        "mlp": layers * 3 * hidden * sizes["intermediate_size"],
        "norms": (2 * layers + 1) * hidden,
    }
    if not tied:
        parts["head"] = sizes["vocab_size"] * hidden
    return parts
