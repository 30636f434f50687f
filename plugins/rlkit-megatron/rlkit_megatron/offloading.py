"""Moving what belongs to a model off its device and back, without anything noticing that holds a tensor of it.

megatron-core keeps views of its flat buffers in many places, so tensors stay the objects that they are: their memory is
given back, and allotted again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch
from torch import Tensor, UntypedStorage


class Offloading:
    """kept: tensors whose numbers must come back; dropped: tensors that are zero whenever the model is moved. Both are asked
    for anew each time."""

    def __init__(self, kept: Callable[[], Iterable[Tensor]], dropped: Callable[[], Iterable[Tensor]]) -> None:
        self._kept, self._dropped = kept, dropped
        self._away: list[tuple[UntypedStorage, int, Tensor | None]] = []

    @property
    def is_away(self) -> bool:
        return bool(self._away)

    def offload(self) -> None:
        """May be called twice."""
        if self._away:
            return
        seen: set[int] = set()
        for tensors, copied in ((self._kept(), True), (self._dropped(), False)):
            for tensor in tensors:
                storage = tensor.untyped_storage()
                if storage.nbytes() == 0 or storage.data_ptr() in seen:
                    continue
                seen.add(storage.data_ptr())
                copy = _bytes_of(storage).to("cpu", copy=True) if copied else None
                self._away.append((storage, storage.nbytes(), copy))
        for storage, _, _ in self._away:
            storage.resize_(0)

    def onload(self) -> None:
        """May be called twice."""
        for storage, size, copy in self._away:
            storage.resize_(size)
            if copy is None:
                _bytes_of(storage).zero_()
            else:
                _bytes_of(storage).copy_(copy)
        self._away.clear()


def _bytes_of(storage: UntypedStorage) -> Tensor:
    return torch.empty(0, dtype=torch.uint8, device=storage.device).set_(storage)
