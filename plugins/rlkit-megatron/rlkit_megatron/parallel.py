"""Where this process stands among those that hold a model: megatron-core's groups, and what their members tell each other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from rlkit.protocols.actor import RowShare
from rlkit_megatron.cpu_mode import enter_cpu_mode
from rlkit_megatron.layout import check_processes
from rlkit_megatron.options import MegatronOptions

_made: tuple[Any, MegatronOptions] | None = None
"""The default group and the layout that megatron-core's groups were made for."""


@dataclass(frozen=True)
class Parallel:
    """This process; `device` is that of the tensors it computes with."""

    options: MegatronOptions
    device: str

    @classmethod
    def of_this_process(cls, device: str, options: MegatronOptions) -> Parallel:
        """Over torch.distributed's default group, which is made where there is none.

        Raises `ConfigError` when the layout does not fit the number of processes. Collective.
        """
        if torch.device(device).type == "cpu":
            enter_cpu_mode()
        if not dist.is_initialized():
            transport = "cpu:gloo,cuda:nccl" if torch.device(device).type == "cuda" else "gloo"
            dist.init_process_group(transport, store=dist.HashStore(), rank=0, world_size=1)  # type: ignore[attr-defined]
        check_processes(options, dist.get_world_size())
        _make_groups(options)
        return cls(options, device)

    @property
    def size(self) -> int:
        return dist.get_world_size()

    @property
    def rank(self) -> int:
        return dist.get_rank()

    @property
    def state(self) -> Any:
        """megatron-core's module of groups."""
        from megatron.core import parallel_state

        return parallel_state

    @property
    def tensor_rank(self) -> int:
        return int(self.state.get_tensor_model_parallel_rank())

    @property
    def row_share(self) -> RowShare:
        """Which of how many parts of the rows this process works on."""
        return share_of_rows(self.options)

    @property
    def is_last_stage(self) -> bool:
        """Whether this process ends the pipeline, where log-probs, values and losses are made."""
        return bool(self.state.is_pipeline_last_stage(ignore_virtual=True))

    def sums_over_rows(self, values: Sequence[float]) -> list[float]:
        """Each value summed over the parts of the rows, in float64; what the last stages say counts."""
        tensor = torch.tensor(values, dtype=torch.float64, device=self.device)
        if self.size > 1 and len(values):
            dist.all_reduce(tensor, group=self.state.get_data_parallel_group())
            self.from_last_stage(tensor)
        found: list[float] = tensor.tolist()
        return found

    def from_last_stage(self, tensor: Tensor) -> None:
        """Overwrite `tensor` of every stage by the last one's. Collective over the pipeline."""
        if self.options.pipeline_parallel > 1:
            source = self.state.get_pipeline_model_parallel_last_rank()
            dist.broadcast(tensor, source, group=self.state.get_pipeline_model_parallel_group())

    def summed_metrics(self, values: Mapping[str, float]) -> dict[str, float]:
        """As `sums_over_rows`, by name; the last stages' values, whose names the others learn from them."""
        names = sorted(values)
        if self.options.pipeline_parallel > 1:
            told = [names]
            source = self.state.get_pipeline_model_parallel_last_rank()
            dist.broadcast_object_list(told, source, group=self.state.get_pipeline_model_parallel_group())
            names = told[0]
        return dict(zip(names, self.sums_over_rows([values.get(name, 0.0) for name in names]), strict=True))

    def most(self, count: int) -> int:
        """The largest of the processes' numbers."""
        if self.size == 1:
            return count
        tensor = torch.tensor([count], dtype=torch.int64, device=self.device)
        dist.all_reduce(tensor, dist.ReduceOp.MAX)
        return int(tensor)

    def gather(self, value: Any) -> list[Any]:
        """What every process says, in the order of ranks."""
        found: list[Any] = [None] * self.size
        if self.size == 1:
            return [value]
        dist.all_gather_object(found, value)
        return found


def share_of_rows(options: MegatronOptions) -> RowShare:
    """Of this process. Raises `ConfigError` as `check_processes`.

    megatron-core counts ranks through the processes of a matrix first, then through copies of the model, then stages.
    """
    rank, size = (dist.get_rank(), dist.get_world_size()) if dist.is_initialized() else (0, 1)
    check_processes(options, size)
    copies = options.rows_shared_by(size)
    return RowShare(index=rank // options.tensor_parallel % copies, count=copies)


def _make_groups(options: MegatronOptions) -> None:
    global _made
    from megatron.core import parallel_state
    from megatron.core.tensor_parallel.random import model_parallel_cuda_manual_seed

    if _made is not None and _made[0] is dist.group.WORLD:
        if _layout(_made[1]) == _layout(options):
            return
        parallel_state.destroy_model_parallel()
    elif _made is not None:
        parallel_state.destroy_model_parallel()
    parallel_state.initialize_model_parallel(
        tensor_model_parallel_size=options.tensor_parallel,
        pipeline_model_parallel_size=options.pipeline_parallel,
        virtual_pipeline_model_parallel_size=options.virtual_pipeline if options.virtual_pipeline > 1 else None,
        expert_model_parallel_size=options.expert_parallel,
        create_gloo_process_groups=False,
    )
    # Nothing is drawn at random, but megatron-core wants states to be there: the process's own generators stay as they were.
    with torch.random.fork_rng(devices=[torch.cuda.current_device()] if torch.cuda.is_available() else []):
        model_parallel_cuda_manual_seed(0)
    _made = dist.group.WORLD, options


def _layout(options: MegatronOptions) -> tuple[int, ...]:
    return (options.tensor_parallel, options.pipeline_parallel, options.virtual_pipeline, options.expert_parallel)
