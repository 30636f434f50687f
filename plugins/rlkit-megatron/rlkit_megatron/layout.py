"""What megatron-core leaves unchecked of a model and a layout: said in one line, before any weight is read."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from rlkit.errors import ConfigError

if TYPE_CHECKING:
    from rlkit_megatron.options import MegatronOptions


def check_adapter(rank: int) -> None:
    """Raises `ConfigError` for an adapter."""
    if rank:
        raise ConfigError(
            f"lora.rank = {rank}: actor backend 'megatron' trains no adapters; set lora.rank = 0, or choose "
            'backend = "fsdp"'
        )


def padded_vocabulary(tokens: int, tensor_parallel: int) -> int:
    """Rows of embedding and head that can be cut into equal slices."""
    return -(-tokens // tensor_parallel) * tensor_parallel


def check_processes(options: MegatronOptions, processes: int) -> None:
    """Raises `ConfigError` when so many processes cannot hold models laid out in this way."""
    each = options.processes_of_a_copy
    if processes % each:
        raise ConfigError(
            f"options: tensor_parallel = {options.tensor_parallel} x pipeline_parallel = {options.pipeline_parallel} takes "
            f"{each} processes for each copy of the model, but there are {processes}; make it a multiple of {each}"
        )
    copies = processes // each
    if copies % options.expert_parallel:
        raise ConfigError(
            f"options.expert_parallel = {options.expert_parallel} does not divide the {copies} copies of the model "
            f"({processes} processes, {each} for each); choose a divisor"
        )


def check_model(model: Mapping[str, Any], options: MegatronOptions) -> None:
    """Raises `ConfigError` for a model, described by its config.json, that cannot be cut in this way."""
    _check_widths(model, options)
    _check_vocabulary(model, options)
    _check_layers(model, options)
    _check_experts(_experts(model), options)


def _check_widths(model: Mapping[str, Any], options: MegatronOptions) -> None:
    heads = model.get("num_attention_heads")
    width = model.get("intermediate_size")
    for what, size in (
        ("attention heads", heads),
        ("key-value heads", model.get("num_key_value_heads") or heads),
        ("units of the MLPs", (model.get("moe_intermediate_size") or width) if _experts(model) else width),
    ):
        if isinstance(size, int) and size % options.tensor_parallel:
            raise ConfigError(
                f"options.tensor_parallel = {options.tensor_parallel} does not divide the model's {size} {what}; choose a "
                "divisor"
            )


def _check_vocabulary(model: Mapping[str, Any], options: MegatronOptions) -> None:
    tokens, tensor = model.get("vocab_size"), options.tensor_parallel
    if isinstance(tokens, int) and tokens <= padded_vocabulary(tokens, tensor) // tensor * (tensor - 1):
        raise ConfigError(
            f"options.tensor_parallel = {tensor} leaves a process without any of the vocabulary's {tokens} tokens; choose "
            "a smaller one"
        )


def _check_layers(model: Mapping[str, Any], options: MegatronOptions) -> None:
    layers, parts = model.get("num_hidden_layers"), options.pipeline_parallel * options.virtual_pipeline
    if isinstance(layers, int) and layers % parts:
        interleaved = f" x virtual_pipeline = {options.virtual_pipeline}" if options.virtual_pipeline > 1 else ""
        raise ConfigError(
            f"options.pipeline_parallel = {options.pipeline_parallel}{interleaved} does not divide the model's {layers} "
            "layers; choose a divisor"
        )


def _check_experts(experts: int, options: MegatronOptions) -> None:
    if options.expert_parallel > 1 and not experts:
        raise ConfigError(
            f"options.expert_parallel = {options.expert_parallel}, but the model has no experts; set it to 1"
        )
    if experts % options.expert_parallel:
        raise ConfigError(
            f"options.expert_parallel = {options.expert_parallel} does not divide the model's {experts} experts; choose a "
            "divisor"
        )
    if experts and options.tensor_parallel > 1 and not options.sequence_parallel:
        raise ConfigError(
            f"options.tensor_parallel = {options.tensor_parallel} with a mixture of experts needs "
            "options.sequence_parallel = true"
        )


def _experts(model: Mapping[str, Any]) -> int:
    return int(model.get("num_local_experts") or model.get("num_experts") or 0)
