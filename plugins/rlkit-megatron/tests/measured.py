"""What processes measure of their part of a model. Functions that `run_on_ranks` finds by their names."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from rlkit.testing.rank_cases import RankCase, build_backend, case_conversations, case_role, rows_of_this_rank


@dataclass(frozen=True)
class Passage:
    """A frozen model was built and exported. parameter_bytes: this process's part; the peaks: of tensors made in the
    meantime, beside what was there before."""

    parameter_bytes: int
    building_peak_bytes: int
    export_peak_bytes: int


@dataclass(frozen=True)
class Writing:
    """A model was trained for a step. parameters: elements of this process's part; written: elements that it writes then,
    of weights and moments."""

    parameters: int
    written: int


def measure_passage(case: RankCase) -> Passage:
    backend, role = build_backend(case), case_role(case, trained=False)
    with watched_tensors() as building:
        built: Any = backend.build_reference(role)
    with watched_tensors() as exporting:
        for _ in built.export_weights():
            pass
    own = sum(tensor.numel() * tensor.element_size() for module in built.modules for tensor in module.parameters())
    return Passage(own, building.peak_bytes, exporting.peak_bytes)


def measure_writing(case: RankCase) -> Writing:
    trainee: Any = build_backend(case).build_supervised(case_role(case))
    trainee.update_supervised(case_conversations(case, 0).select(rows_of_this_rank(case)))
    tensors = trainee.state().tensors
    return Writing(
        parameters=sum(parameter.numel() for module in trainee.modules for parameter in module.parameters()),
        written=sum(part.values.numel() for parts in tensors.values() for part in parts.values()),
    )


@dataclass
class TensorMemory:
    """peak_bytes: the most that the tensors made in a block had at a time."""

    peak_bytes: int = 0
    _held_bytes: int = 0
    _known: set[int] = field(default_factory=set)
    _lock: Any = field(default_factory=threading.RLock)

    def add(self, storage: Any) -> None:
        """Count a storage until nobody holds it any more."""
        number, size = storage._cdata, storage.nbytes()
        with self._lock:
            if number in self._known:
                return
            self._known.add(number)
            self._held_bytes += size
            self.peak_bytes = max(self.peak_bytes, self._held_bytes)
        weakref.finalize(storage, self._gone, number, size)

    def _gone(self, number: int, size: int) -> None:
        with self._lock:
            self._known.discard(number)
            self._held_bytes -= size


@contextmanager
def watched_tensors() -> Iterator[TensorMemory]:
    """Counts what operations of this thread make, until it is given back by whichever thread; not what an operation has for
    itself while it runs.

    torch's profiler misses what other threads give back, and gloo's are often the last to hold what was sent.
    """
    memory = TensorMemory()

    class Watch(TorchDispatchMode):
        def __torch_dispatch__(self, operation: Any, types: Any, arguments: Any = (), named: Any = None) -> Any:
            given = {storage._cdata for storage in storages((arguments, named))}
            made = operation(*arguments, **(named or {}))
            for storage in storages(made):
                if storage._cdata not in given:  # neither a view nor done in place
                    memory.add(storage)
            return made

    with Watch():
        yield memory


def storages(values: Any) -> list[Any]:
    """Of all tensors anywhere in `values` that have memory."""
    tensors = (value for value in tree_leaves(values) if isinstance(value, torch.Tensor))
    return [tensor.untyped_storage() for tensor in tensors if tensor.device.type != "meta"]
