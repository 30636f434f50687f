"""Micro-batches through the stages of a model: megatron-core's schedules, and what the last stage makes of hidden states."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from megatron.core.pipeline_parallel import get_forward_backward_func
from megatron.core.tensor_parallel.mappings import (
    copy_to_tensor_model_parallel_region,
    gather_from_sequence_parallel_region,
)
from torch import Tensor

from rlkit_megatron.packed_rows import PackedRows
from rlkit_megatron.parallel import Parallel

T = TypeVar("T")


@dataclass(frozen=True, eq=False)
class LastHiddenStates:
    """Of one micro-batch, where the pipeline ends. `output` [1, T, D], with sequence parallelism this process's tokens."""

    output: Tensor
    rows: PackedRows
    parallel: Parallel

    def for_sliced_head(self) -> Tensor:
        """[N, D] at `rows.predict_at`, for a head that is cut over the processes: their gradients are added up."""
        hidden = self.output[0]
        if self.parallel.options.cuts_tokens:
            hidden = gather_from_sequence_parallel_region(hidden, tensor_parallel_output_grad=True)
        elif self.parallel.options.tensor_parallel > 1:
            hidden = copy_to_tensor_model_parallel_region(hidden)
        return hidden.index_select(0, self.rows.predict_at)

    def for_whole_head(self) -> Tensor:
        """[N, D] likewise, for a head that every process has whole: each computes all of the gradient."""
        hidden = self.output[0]
        if self.parallel.options.cuts_tokens:
            hidden = gather_from_sequence_parallel_region(hidden, tensor_parallel_output_grad=False)
        return hidden.index_select(0, self.rows.predict_at)


class Pipeline:
    """Runs the parts of a model that this process has, in step with the other stages'. All calls are collective.

    Every process of a copy of the model gives the same micro-batches.
    """

    def __init__(self, parts: Sequence[Any], parallel: Parallel) -> None:
        self.parts = list(parts)
        self.parallel = parallel

    def forward(self, batches: Sequence[PackedRows], compute: Callable[[LastHiddenStates, int], T]) -> list[T]:
        """What `compute` makes of each micro-batch (and its number), in order; nothing on any stage but the last."""

        def collect(hidden: LastHiddenStates, number: int) -> Callable[..., T]:
            return lambda *_, **__: compute(hidden, number)

        with torch.no_grad():
            found: list[T] = self._run(batches, collect, forward_only=True)
        return found if self.parallel.is_last_stage else []

    def forward_backward(
        self, batches: Sequence[PackedRows], compute_loss: Callable[[LastHiddenStates, int], Tensor]
    ) -> None:
        """Add up the gradients of the losses of all micro-batches, over the parts of the rows too."""

        def learn(hidden: LastHiddenStates, number: int) -> Callable[..., tuple[Tensor, Tensor, None]]:
            nothing = torch.zeros((), dtype=torch.int, device=self.parallel.device)
            return lambda *_, **__: (compute_loss(hidden, number), nothing, None)

        self._run(batches, learn, forward_only=False)

    def _run(
        self,
        batches: Sequence[PackedRows],
        make: Callable[[LastHiddenStates, int], Callable[..., Any]],
        *,
        forward_only: bool,
    ) -> list[Any]:
        parameters = [rows.params() for rows in batches]

        def step(numbers: Any, part: Any) -> tuple[Tensor, Callable[..., Any] | None]:
            number = next(numbers)
            rows, params = batches[number], parameters[number]
            output = part(rows.token_ids[None], params.layout.position_ids, None, packed_seq_params=params)
            return output, lambda hidden, **_: make(LastHiddenStates(hidden, rows, self.parallel), number)()

        found: list[Any] = get_forward_backward_func()(
            forward_step_func=step,
            data_iterator=[iter(range(len(batches))) for _ in self.parts],
            model=self.parts,
            num_microbatches=len(batches),
            seq_length=max(len(rows.token_ids) for rows in batches),
            micro_batch_size=1,
            forward_only=forward_only,
            collect_non_loss_data=forward_only,
        )
        return found
