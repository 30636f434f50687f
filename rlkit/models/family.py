"""A model family over one transformers model type: what most family plugins return."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rlkit.errors import ModelError
from rlkit.models.suggestion import did_you_mean

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

    from rlkit.protocols.family import ModelHead


_COUNTS = (
    "vocab_size",
    "hidden_size",
    "intermediate_size",
    "num_hidden_layers",
    "num_attention_heads",
    "num_key_value_heads",
    "head_dim",
    "max_position_embeddings",
)


class TransformersFamily:
    """Implements `rlkit.protocols.ModelFamily` with the functions of `rlkit.models.causal`.

    model_type  transformers' name of the config that new models are made with; empty: new models cannot be made
    sizes       named sizes: keyword arguments of that config
    """

    def __init__(self, model_type: str, sizes: Mapping[str, Mapping[str, Any]]) -> None:
        self.model_type = model_type
        self._sizes = sizes

    def presets(self) -> Mapping[str, Mapping[str, Any]]:
        return self._sizes

    def create_config(self, preset: str, overrides: Mapping[str, Any]) -> Any:
        """Raises `ModelError` for an unknown preset, an unknown key, or sizes that do not fit each other."""
        from transformers import CONFIG_MAPPING
        from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

        if preset not in self._sizes:
            hint = did_you_mean(preset, self._sizes)
            raise ModelError(f"size '{preset}' is not known; sizes: {', '.join(self._sizes) or '(none)'}{hint}")
        config_class = CONFIG_MAPPING[self.model_type]
        settings = {**self._sizes[preset], **overrides}
        known = sorted(key for key in config_class().to_dict() if key != "transformers_version")
        for key in settings:
            if key not in known:
                raise ModelError(f"{config_class.__name__} has no key '{key}'{did_you_mean(key, known)}")
        _check_positive(settings)
        if "head_dim" not in overrides and {"hidden_size", "num_attention_heads"} & set(overrides):
            settings.pop("head_dim", None)  # the preset's belongs to the preset's width
        if "head_dim" in known and "head_dim" not in settings:
            settings["head_dim"] = _head_dim(settings)
        _check_heads(settings)
        try:
            config = config_class(**settings)
        except Exception as error:
            reason = " ".join(str(error).split())
            raise ModelError(f"{config_class.__name__} refuses these sizes: {reason}") from error
        config.architectures = [MODEL_FOR_CAUSAL_LM_MAPPING_NAMES[self.model_type]]
        return config

    def build(
        self, folder: Path | Any, *, head: ModelHead, dtype: torch.dtype, device: str, trust_remote_code: bool = False
    ) -> nn.Module:
        from rlkit.models.causal import build_model

        return build_model(folder, head=head, dtype=dtype, device=device, trust_remote_code=trust_remote_code)

    def load_weights(self, module: nn.Module, folder: Path) -> None:
        from rlkit.models.causal import load_weights

        load_weights(module, folder)

    def export_weights(self, module: nn.Module) -> Iterator[tuple[str, Tensor]]:
        from rlkit.models.causal import export_weights

        return export_weights(module)

    def save(self, named_tensors: Iterable[tuple[str, Tensor]], config: Any, folder: Path) -> None:
        from rlkit.models.causal import save_model

        save_model(named_tensors, config, folder)


def _head_dim(settings: Mapping[str, Any]) -> int:
    hidden, heads = settings["hidden_size"], settings["num_attention_heads"]
    if hidden % heads:
        raise ModelError(
            f"hidden_size = {hidden} is not divisible by num_attention_heads = {heads}; set head_dim or change one"
        )
    return int(hidden // heads)


def _check_positive(settings: Mapping[str, Any]) -> None:
    for key in _COUNTS:
        value = settings.get(key, 1)
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            raise ModelError(f"{key} = {value!r} must be a positive integer")


def _check_heads(settings: Mapping[str, Any]) -> None:
    """What transformers itself finds out only in the first forward pass."""
    heads, kv_heads = settings["num_attention_heads"], settings["num_key_value_heads"]
    if heads % kv_heads:
        raise ModelError(f"num_attention_heads = {heads} is not divisible by num_key_value_heads = {kv_heads}")
    head_dim = settings.get("head_dim") or _head_dim(settings)
    if head_dim % 2:
        raise ModelError(f"head_dim = {head_dim} must be an even number: rotary embeddings turn pairs")
