"""Options of the `vllm` rollout engine."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from rlkit.config import PluginOptions


class VLLMEngineOptions(PluginOptions):
    """How much memory vLLM takes and how it computes; what is answered depends on none of it but `dtype`."""

    gpu_memory_utilization: Annotated[float, Field(gt=0, le=1)] = 0.4
    """GPU only: share of the device's memory for weights, activations and KV cache together. The rest is for the actor, which is there first."""
    kv_cache_gib: Annotated[float, Field(ge=0)] = 0.0
    """GiB of KV cache. 0: what `gpu_memory_utilization` leaves on a GPU, 1 GiB on a CPU, where VLLM_CPU_KVCACHE_SPACE, if set, decides."""
    max_model_len: Annotated[int, Field(ge=0)] = 0
    """Tokens of prompt and answer together. 0: the model's context length; less lets a smaller KV cache do."""
    max_num_seqs: Annotated[int, Field(gt=0)] = 256
    """Answers in progress at once."""
    max_num_batched_tokens: Annotated[int, Field(gt=0)] = 8192
    """Tokens, of prompts mostly, in one forward pass. Longer prompts are read in several."""
    tensor_parallel_size: Annotated[int, Field(gt=0)] = 1
    """Devices that share each layer; more than 1 starts a process for each."""
    enforce_eager: bool | Literal["auto"] = "auto"
    """Do without compiling the model and capturing CUDA graphs, which make decoding faster and the start minutes longer. `auto`: false on a GPU, true on a CPU."""
    enable_prefix_caching: bool = True
    """Keep the KV cache of prompt beginnings, so that the samples of a prompt and the turns of a conversation share it."""
    dtype: Literal["model", "float32", "bfloat16", "float16"] = "model"
    """Type of weights and arithmetic. `model` is `model.dtype`, the trainer's; a smaller one is faster and makes the log-probs of engine and trainer differ by rounding."""
