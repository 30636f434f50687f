"""Options of the `vllm` rollout engine."""

from __future__ import annotations

import os
from typing import Annotated, Literal

from pydantic import Field

from rlkit.config import PluginOptions

CPU_KV_CACHE_GIB = 1.0


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
    images_per_prompt: Annotated[int, Field(ge=0)] = 4
    """Models that take images: the most that one prompt may have; vLLM makes room for so many. 0 leaves the vision part idle."""
    image_hosts: tuple[str, ...] = ()
    """`rlkit serve` only: hosts that images named by an address may be fetched from. By default none: images come in the request, as `data:` URLs."""
    lora: bool = True
    """When adapters are trained or generated with, take them as they are and add them layer by layer. False has the whole merged model sent instead: for architectures that vLLM cannot adapt, and faster decoding."""
    dtype: Literal["model", "float32", "bfloat16", "float16"] = "model"
    """Type of weights and arithmetic. `model` is `model.dtype`, the trainer's; a smaller one is faster and makes the log-probs of engine and trainer differ by rounding."""
    tool_call_parser: str = "hermes"
    """`rlkit serve` only: how the model writes its tool calls, by vLLM's name (`vllm serve --help=tool-call-parser`). Empty leaves them in the text."""

    @property
    def max_prefill_tokens(self) -> int:
        """Prompt tokens in one pass, by the name that `--dry-run` knows."""
        return self.max_num_batched_tokens

    @property
    def device_share(self) -> float:
        """Of a GPU, for everything."""
        return self.gpu_memory_utilization

    def fixed_cache_bytes(self, device: str) -> int | None:
        """Of the KV cache, taken at the start; None: what the share of a GPU leaves."""
        if device == "cpu":
            return int((_user_s_cache_gib() or self.kv_cache_gib or CPU_KV_CACHE_GIB) * 2**30)
        return int(self.kv_cache_gib * 2**30) or None


def _user_s_cache_gib() -> float:
    """What vLLM's own variable says on a CPU; 0 when it says nothing, or nothing that vLLM would accept."""
    try:
        return float(os.environ.get("VLLM_CPU_KVCACHE_SPACE", "0"))
    except ValueError:
        return 0.0
