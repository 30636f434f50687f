"""How much memory a run needs, phase by phase, from sizes alone: no torch, no weights.

The formulas are in docs/memory.md. What cannot be known beforehand (the allocator's fragmentation, the libraries' own
buffers) is left out: expect the truth within about a quarter above the estimate.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from rlkit.algos.chunk_size import chunk_rows
from rlkit.models.shape import ModelShape

BYTES = {"float32": 4, "bfloat16": 2, "float16": 2}
MASTER_BYTES = 4
"""A trained model's parameters and gradients are float32, whatever the arithmetic."""
OPTIMIZER_BYTES = 8
"""AdamW's two moments in float32."""
LOGIT_COPIES = 3
"""A chunk's logits, their softmax and their gradient, float32 each."""
KV_CACHE = "kv cache"
SPARE_KV = 1.25
"""Engines allocate keys and values ahead of what is filled."""


@dataclass(frozen=True)
class Phase:
    """What is in memory at the same time, in bytes."""

    name: str
    parts: Mapping[str, int]

    @property
    def total_bytes(self) -> int:
        return sum(self.parts.values())


@dataclass(frozen=True)
class EngineLimits:
    """What an engine says of its memory; None: nothing.

    cache_tokens    that its KV cache may hold
    prefill_tokens  that it prefills at once
    cache_bytes     of a KV cache that is there as a whole from the start
    device_share    of a GPU that it takes for everything, in (0, 1]
    keeps_cache     a cache of `cache_bytes` is not given back while others compute
    """

    cache_tokens: int | None = None
    prefill_tokens: int | None = None
    cache_bytes: int | None = None
    device_share: float | None = None
    keeps_cache: bool = False

    def kept_bytes(self) -> dict[str, int]:
        """What stays in memory through every phase, besides the parameters."""
        return {KV_CACHE: self.cache_bytes} if self.keeps_cache and self.cache_bytes is not None else {}


@dataclass(frozen=True)
class AdapterSize:
    """What is trained of a role with LoRA; the rest is frozen in `base_dtype`."""

    parameters: int
    base_dtype: str


def adapter_size(shape: ModelShape, rank: int, targets: Sequence[str], base_dtype: str) -> AdapterSize | None:
    """Each adapter on an [out, in] matrix has rank (in + out) parameters; None without one (rank 0).

    A layer of a name that is not one of the usual seven counts as the largest of them.
    """
    if rank == 0:
        return None
    hidden, wide = shape.hidden_size, shape.hidden_size + shape.intermediate_size
    queries, keys = shape.num_heads * shape.head_dim, shape.num_kv_heads * shape.head_dim
    sides = dict.fromkeys(("q_proj", "o_proj"), hidden + queries)
    sides |= dict.fromkeys(("k_proj", "v_proj"), hidden + keys)
    sides |= dict.fromkeys(("gate_proj", "up_proj", "down_proj"), wide)
    names = list(sides) if tuple(targets) == ("all_linear",) else targets
    in_one_layer = [name for name in names if any(part.isdigit() for part in name.split("."))]
    total = sum(
        sides.get(name.rpartition(".")[2], wide) * (1 if name in in_one_layer else shape.num_layers) for name in names
    )
    return AdapterSize(rank * total, base_dtype)


def trained_bytes(shape: ModelShape, *, value_head: bool = False, adapter: AdapterSize | None = None) -> dict[str, int]:
    """Parameters and optimizer state of a trained role. The value head replaces the language-model head."""
    parameters = value_model_parameters(shape) if value_head else shape.num_parameters
    if adapter is None:
        return {"parameters": MASTER_BYTES * parameters, "optimizer": OPTIMIZER_BYTES * parameters}
    frozen = BYTES[adapter.base_dtype] * parameters
    return {
        "parameters": frozen + MASTER_BYTES * adapter.parameters,
        "optimizer": OPTIMIZER_BYTES * adapter.parameters,
    }


def gradient_bytes(shape: ModelShape, *, value_head: bool = False, adapter: AdapterSize | None = None) -> int:
    if adapter is not None:
        return MASTER_BYTES * adapter.parameters
    return MASTER_BYTES * (value_model_parameters(shape) if value_head else shape.num_parameters)


def value_head_bytes(shape: ModelShape) -> dict[str, int]:
    """A head on the actor's trunk: `hidden` parameters and their optimizer state; its gradients are not worth a line."""
    return {"parameters": MASTER_BYTES * shape.hidden_size, "optimizer": OPTIMIZER_BYTES * shape.hidden_size}


def frozen_bytes(shape: ModelShape, dtype: str) -> int:
    return BYTES[dtype] * shape.num_parameters


def value_model_parameters(shape: ModelShape) -> int:
    """Untied models lose their language-model head; every value model gains `hidden` parameters."""
    head = 0 if shape.tied_embeddings else shape.parameters_by_part.get("head", 0)
    return shape.num_parameters - head + shape.hidden_size


def cast_bytes(shape: ModelShape, dtype: str, *, adapter: AdapterSize | None = None) -> int:
    """Mixed precision computes with copies of the float32 weights, kept for as long as a pass takes."""
    if dtype == "float32":
        return 0
    return frozen_bytes(shape, dtype) if adapter is None else BYTES[dtype] * adapter.parameters


def kv_cache_bytes(shape: ModelShape, tokens: int, dtype: str) -> int:
    """Keys and values of `tokens` tokens over all layers."""
    return BYTES[dtype] * shape.kv_elements_per_token * tokens


def activation_bytes(shape: ModelShape, tokens: int, dtype: str, *, checkpointing: bool) -> int:
    """What the backward pass of `tokens` packed tokens needs kept, without the logits.

    Of each layer: its input, two normed copies with their float32 statistics, queries, keys and values before and
    after rotation, the attention's output before and after projection, and the gate, up and product of the MLP. With
    checkpointing only each layer's input, and one layer's whole set while it is recomputed. Mixed precision leaves the
    residual stream and its norms in float32.
    """
    queries, keys = shape.num_heads * shape.head_dim, shape.num_kv_heads * shape.head_dim
    inner = 3 * queries + 5 * keys + 4 * shape.intermediate_size
    one_layer = tokens * (8 * shape.hidden_size * MASTER_BYTES + inner * BYTES[dtype])
    if checkpointing:
        return shape.num_layers * tokens * shape.hidden_size * MASTER_BYTES + one_layer
    return shape.num_layers * one_layer


def logit_bytes(shape: ModelShape, tokens: int) -> int:
    """Logits are made chunk by chunk and never all at once."""
    return LOGIT_COPIES * 4 * shape.vocab_size * min(tokens, chunk_rows(shape.vocab_size))


def forward_bytes(shape: ModelShape, tokens: int, dtype: str, *, logit_tokens: int) -> int:
    """Working memory of a forward pass without gradients: the widest layer's tensors, and a chunk of logits.

    Logits are wanted of `logit_tokens` of the `tokens`.
    """
    widest = max(2 * shape.intermediate_size, 3 * shape.num_heads * shape.head_dim) + 3 * shape.hidden_size
    return tokens * widest * BYTES[dtype] + logit_bytes(shape, logit_tokens)


def rollout_bytes(
    shape: ModelShape, *, answers: int, prompt_tokens: int, longest: int, dtype: str, limits: EngineLimits
) -> dict[str, int]:
    """What generating adds to the engine's parameters, as when prompts enter while the cache is full.

    answers        answers asked for at once; the engine works on as many as its cache may hold
    prompt_tokens  longest prompt; longest: longest prompt with its answer
    """
    fitting = limits.cache_tokens or answers * longest
    if limits.cache_bytes is not None:
        fitting = limits.cache_bytes // kv_cache_bytes(shape, 1, dtype)
    rows = max(1, min(answers, fitting // longest))
    needed = int(SPARE_KV * kv_cache_bytes(shape, rows * longest, dtype))
    prefill = min(rows * prompt_tokens, max(prompt_tokens, limits.prefill_tokens or rows * prompt_tokens))
    return {
        KV_CACHE: needed if limits.cache_bytes is None else limits.cache_bytes,
        "prefill": forward_bytes(shape, prefill, dtype, logit_tokens=rows),
    }


def write_bytes(number: float) -> str:
    """512 B, 3.4 MiB, 12.0 GiB."""
    for limit, unit in ((2**30, "GiB"), (2**20, "MiB"), (2**10, "KiB")):
        if number >= limit:
            return f"{number / limit:.1f} {unit}"
    return f"{number:.0f} B"
