"""megatron-core without CUDA: what stands in for the calls to CUDA that its training path makes, on the CPU.

Entered only for roles whose device is `cpu`, and nothing happens where CUDA exists. Each stand-in answers a call that would
otherwise raise, so code that asks `torch.cuda.is_available()` first notices nothing.
"""

from __future__ import annotations

import functools
import importlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.utils._device import _device_constructors

from rlkit.errors import ConfigError

CPU = torch.device("cpu")

_entered = False


def enter_cpu_mode() -> None:
    """From here on megatron-core computes on the CPU. May be called again. Raises `ConfigError` where CUDA exists."""
    global _entered
    if torch.cuda.is_available():
        raise ConfigError(
            "device = cpu: megatron-core takes a GPU wherever there is one; set the device to cuda, or hide the GPUs "
            "(CUDA_VISIBLE_DEVICES=)"
        )
    _stand_in_for_streams()  # each time: what else computes in this process without CUDA, as vLLM does, has some of its own
    if _entered:
        return
    _entered = True
    _stand_in_for_the_device()
    _stand_in_for_the_random_state()
    _stand_in_for_unequal_messages()
    _leave_out_of_megatron()


def is_entered() -> bool:
    return _entered


@contextmanager
def named_as_on_cuda() -> Iterator[None]:
    """megatron-core's optimizers sort parameters by the names of their types, and know those of CUDA only."""
    if not _entered:
        yield
        return
    of_tensor = Tensor.type

    def with_cuda(self: Tensor, *arguments: Any, **keywords: Any) -> Any:
        found = of_tensor(self, *arguments, **keywords)
        return found.replace("torch.", "torch.cuda.", 1) if isinstance(found, str) else found

    Tensor.type = with_cuda  # type: ignore[method-assign, assignment]
    try:
        yield
    finally:
        Tensor.type = of_tensor  # type: ignore[method-assign]


def _stand_in_for_the_device() -> None:
    torch.cuda.current_device = lambda: CPU  # type: ignore[assignment, return-value]
    torch.cuda.synchronize = _nothing
    _device_constructors()  # `with torch.device(...)` must go on to know the functions as they are beneath
    for maker in ("zeros", "ones", "empty", "full", "tensor", "arange", "zeros_like", "empty_like"):
        setattr(torch, maker, _on_the_cpu(getattr(torch, maker)))
    Tensor.cuda = lambda self, *_, **__: self  # type: ignore[method-assign]


def _on_the_cpu(make: Callable[..., Tensor]) -> Callable[..., Tensor]:
    @functools.wraps(make)
    def made(*arguments: Any, **keywords: Any) -> Tensor:
        device = keywords.get("device")
        if device is not None and torch.device(device).type == "cuda":
            keywords["device"] = CPU
        return make(*arguments, **keywords)

    return made


def _stand_in_for_the_random_state() -> None:
    random: Any = importlib.import_module("megatron.core.tensor_parallel.random")
    get_state, set_state = torch.get_rng_state, torch.set_rng_state
    torch.cuda.get_rng_state = lambda *_, **__: get_state()
    torch.cuda.set_rng_state = lambda state, *_, **__: set_state(state)
    torch.cuda.manual_seed = lambda seed: torch.manual_seed(seed)  # type: ignore[assignment]
    random._get_cuda_rng_state = lambda *_, **__: get_state()
    random._set_cuda_rng_state = lambda state, *_, **__: set_state(state)


class _Stream:
    """Work on the CPU is done in order."""

    device = CPU

    def __init__(self, *_: Any, **__: Any) -> None: ...

    def query(self) -> bool:
        return True

    wait_stream = wait_event = synchronize = record = wait = lambda self, *_, **__: None

    def record_event(self, *_: Any) -> _Stream:
        return _Stream()


def _stand_in_for_streams() -> None:
    torch.cuda.Stream = _Stream  # type: ignore[misc, assignment]
    torch.cuda.Event = _Stream  # type: ignore[misc, assignment]
    for name in ("current_stream", "default_stream"):
        setattr(torch.cuda, name, lambda *_, **__: _Stream())
    torch.cuda.stream = lambda *_: nullcontext()  # type: ignore[assignment]


def _stand_in_for_unequal_messages() -> None:
    """Where experts and matrices are both cut, processes have different numbers of tokens; gloo's messages have one size."""
    mappings: Any = importlib.import_module("megatron.core.tensor_parallel.mappings")
    gather, reduce_scatter = mappings._gather_along_first_dim, mappings._reduce_scatter_along_first_dim

    def gathered(rows: Tensor, group: Any, sizes: Sequence[int] | None = None, *more: Any) -> Any:
        return gather(rows, group, None, *more) if sizes is None else gather_unequal(rows, group, sizes)

    def reduced(rows: Tensor, group: Any, sizes: Sequence[int] | None = None, *more: Any) -> Any:
        return reduce_scatter(rows, group, None, *more) if sizes is None else reduce_scatter_unequal(rows, group, sizes)

    mappings._gather_along_first_dim, mappings._reduce_scatter_along_first_dim = gathered, reduced


def gather_unequal(rows: Tensor, group: Any, sizes: Sequence[int]) -> Tensor:
    """The rows of all processes end to end, of which each has one of `sizes`. Collective."""
    padded = rows.new_zeros((max(sizes), *rows.shape[1:]))
    padded[: len(rows)] = rows
    parts = [torch.empty_like(padded) for _ in sizes]
    dist.all_gather(parts, padded, group=group)
    return torch.cat([part[:size] for part, size in zip(parts, sizes, strict=True)])


def reduce_scatter_unequal(rows: Tensor, group: Any, sizes: Sequence[int]) -> Tensor:
    """The sum over the processes of this process's part of the rows, which are `sizes` end to end. Collective."""
    total = rows.clone(memory_format=torch.contiguous_format)
    dist.all_reduce(total, group=group)
    parts: tuple[Tensor, ...] = torch.split(total, list(sizes))
    return parts[dist.get_rank(group)].contiguous()


def _leave_out_of_megatron() -> None:
    """Of the mixtures of experts: a copy to the host, a product that only Transformer Engine has."""
    dispatcher: Any = importlib.import_module("megatron.core.transformer.moe.token_dispatcher")
    dispatcher.maybe_move_tensor_to_cpu = _as_on_the_host
    moe: Any = importlib.import_module("megatron.core.transformer.moe.moe_utils")
    moe.te_general_gemm = None


def _as_on_the_host(tensor: Any, as_numpy: bool = False, record_stream: bool = False) -> Any:
    return tensor.numpy() if as_numpy and isinstance(tensor, Tensor) else tensor


def _nothing(*_: Any, **__: Any) -> None:
    """What synchronising comes to on the CPU."""
