"""Adapters in vLLM, kept in memory and never read from a folder: the part of `vllm_api` that is about them.

Nothing of vLLM is imported with this module.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from torch import Tensor, nn

from rlkit_vllm.segments import TensorPlace, read_segment

ADAPTER_RANKS = (1, 8, 16, 32, 64, 128, 256, 320, 512)
"""Ranks that vLLM makes room for; the next larger one is taken."""

MAX_ADAPTER_RANK = ADAPTER_RANKS[-1]

ADAPTER_ID = 1
"""Of the only adapter."""


def adapter_arguments(rank: int) -> dict[str, Any]:
    """What vLLM is started with for one adapter of up to `rank`; nothing for rank 0."""
    if not rank:
        return {}
    room = next(known for known in ADAPTER_RANKS if known >= rank)
    return {"enable_lora": True, "max_loras": 1, "max_cpu_loras": 1, "max_lora_rank": room}


def adapter_request() -> Any:
    """Names the adapter that the workers hold already: the path is never read."""
    from vllm.lora.request import LoRARequest

    return LoRARequest(lora_name="rlkit", lora_int_id=ADAPTER_ID, lora_path="(in memory)")


class AdapterCalls:
    """The methods of `vllm_api.WorkerCalls` that are about adapters."""

    model_runner: Any
    _rlkit_kept: list[tuple[str, Tensor]]

    def rlkit_keep_segment(self, segment: str, places: Sequence[TensorPlace]) -> None:
        self._rlkit_kept = [*getattr(self, "_rlkit_kept", ()), *read_segment(segment, places)]

    def rlkit_load_adapter(self, scale: float, named_tensors: Sequence[tuple[str, Tensor]] | None = None) -> str:
        """In place of any other adapter. Returns why that cannot be, and then changes nothing; else nothing."""
        kept, self._rlkit_kept = getattr(self, "_rlkit_kept", []), []
        named_tensors = kept if named_tensors is None else named_tensors
        worker_manager = self.model_runner.lora_manager
        manager = worker_manager._adapter_manager
        adapter = _vllm_adapter(worker_manager, scale, named_tensors)
        unknown = [name for name in adapter.loras if not _is_adaptable(manager, name)]
        if unknown:
            return (
                f"vLLM cannot adapt layer '{unknown[0]}' of {type(self.model_runner.get_model()).__name__}; leave it out of "
                "lora.targets, or set lora = false in the engine's options to have merged weights sent"
            )
        manager.remove_adapter(ADAPTER_ID)
        manager.add_adapter(adapter)
        manager.activate_adapter(ADAPTER_ID)
        return ""


def _vllm_adapter(worker_manager: Any, scale: float, named_tensors: Iterable[tuple[str, Tensor]]) -> Any:
    """vLLM's own form of an adapter, copied."""
    from vllm.lora.lora_model import LoRAModel
    from vllm.lora.peft_helper import PEFTHelper

    tensors = {f"base_model.model.{name}.weight": tensor.detach().clone() for name, tensor in named_tensors}
    rank = max(tensor.shape[0] for name, tensor in tensors.items() if name.endswith("lora_A.weight"))
    mapper = getattr(worker_manager._adapter_manager.model, "hf_to_vllm_mapper", None)
    return LoRAModel.from_lora_tensors(
        lora_model_id=ADAPTER_ID,
        tensors=tensors,
        peft_helper=PEFTHelper(r=rank, lora_alpha=scale * rank, target_modules=[]),
        device="cpu",
        dtype=worker_manager.lora_config.lora_dtype,
        model_vocab_size=worker_manager.vocab_size,
        weights_mapper=None if mapper is None else mapper.get_rename_mapper(),
    )


def _is_adaptable(manager: Any, name: str) -> bool:
    """Whether a layer, or the fused one that it is a part of in vLLM, has been made ready for adapters."""
    parent, _, last = name.rpartition(".")
    fused = [whole for whole, parts in manager.packed_modules_mapping.items() if last in parts]
    return any(f"{parent}.{known}".removeprefix(".") in manager.modules for known in (last, *fused))


def take_off_adapters(model: nn.Module) -> list[tuple[nn.Module, str, nn.Module]]:
    """Put the layers under vLLM's adapters in their place: weights are loaded by the names without them.

    Returns what undoes it: module, name of the child, the adapter around it.
    """
    from vllm.lora.layers import BaseLayerWithLoRA

    wrapped = [
        (parent, name, child)
        for parent in model.modules()
        for name, child in parent.named_children()
        if isinstance(child, BaseLayerWithLoRA)
    ]
    for parent, name, wrapper in wrapped:
        setattr(parent, name, wrapper.base_layer)
    return wrapped
