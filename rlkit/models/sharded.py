"""Parameters that are spread over processes, as FSDP2 leaves them: DTensors, each process with its part."""

from __future__ import annotations

from torch import Tensor


def is_sharded(tensor: Tensor) -> bool:
    """Whether `tensor` is a DTensor. Does not import torch.distributed where nothing is."""
    return hasattr(tensor, "placements")


def gathered(tensor: Tensor) -> Tensor:
    """The whole of a sharded tensor, on every process; any other as it is. Collective."""
    whole: Tensor = tensor.full_tensor() if is_sharded(tensor) else tensor  # type: ignore[attr-defined]
    return whole


def own_piece(target: Tensor, whole: Tensor) -> Tensor:
    """The part of `whole` that this process keeps of the sharded `target`: a view, of the same shape as its local part."""
    from torch.distributed.tensor import DTensor

    assert isinstance(target, DTensor)
    if target.to_local().numel() == 0:
        return whole.new_empty(target.to_local().shape)
    (chunk,) = target.__create_chunk_list__()  # type: ignore[no-untyped-call]
    return whole[tuple(slice(start, start + size) for start, size in zip(chunk.offsets, chunk.sizes, strict=True))]


def copy_into(target: Tensor, tensor: Tensor) -> None:
    """Copy `tensor` into `target` in place; where only `target` is sharded, this process's part of it.

    Nothing is communicated. Of a tensor from a safetensors file only that part is read.
    """
    if is_sharded(target) and not is_sharded(tensor):
        target.to_local().copy_(own_piece(target, tensor))  # type: ignore[attr-defined]
    else:
        target.copy_(tensor)
