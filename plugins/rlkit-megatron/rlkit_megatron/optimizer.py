"""megatron-core's distributed optimizer (AdamW), stepped so that broken steps are skipped, and its state by parameter."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from megatron.core import parallel_state
from megatron.core.distributed import DistributedDataParallel, DistributedDataParallelConfig, finalize_model_grads
from megatron.core.optimizer import OptimizerConfig, get_megatron_optimizer
from megatron.core.optimizer.clip_grads import clip_grad_by_total_norm_fp32
from torch import Tensor, nn

from rlkit.protocols.actor import OptimizerSettings
from rlkit_megatron.cpu_mode import named_as_on_cuda

MOMENTS = ("exp_avg", "exp_avg_sq")


def with_gradient_buffers(parts: Sequence[Any]) -> list[DistributedDataParallel]:
    """The parts, each with buffers that gradients are added up in, in float32, and that are reduced over the rows' parts."""
    config = parts[0].config
    config.finalize_model_grads_func = _finalize
    settings = DistributedDataParallelConfig(use_distributed_optimizer=True, grad_reduce_in_fp32=True)
    return [DistributedDataParallel(config, settings, part) for part in parts]


def _finalize(model: list[Any], _tokens: Tensor | None, **keywords: Any) -> None:
    """Losses come divided already: megatron-core would divide the gradients by the number of tokens."""
    finalize_model_grads(model, None, **keywords)


@dataclass(frozen=True)
class _Share:
    """The elements of a parameter that this process steps: `main` is them in float32, from `start` to `end` of all."""

    adam: Any
    main: Tensor
    start: int
    end: int


class Optimizer:
    """Owns the float32 parameters and moments of the parts of one model; each process those of its share of the elements."""

    def __init__(self, parts: Sequence[DistributedDataParallel], settings: OptimizerSettings) -> None:
        self.settings = settings
        self.parts = list(parts)
        self.steps_done = 0
        self.steps_skipped = 0
        config = OptimizerConfig(
            optimizer="adam",
            lr=settings.lr,
            weight_decay=settings.weight_decay,
            adam_beta1=settings.betas[0],
            adam_beta2=settings.betas[1],
            adam_eps=settings.eps,
            clip_grad=settings.max_grad_norm,
            bf16=parts[0].config.bf16,
            params_dtype=parts[0].config.params_dtype,
            use_distributed_optimizer=True,
        )
        with named_as_on_cuda():
            self._whole: Any = get_megatron_optimizer(config, self.parts, use_gloo_process_groups=False)
        self._shares = self._find_shares()
        self.zero_grad()  # the buffers come as the memory was

    def zero_grad(self) -> None:
        for part in self.parts:
            part.zero_grad_buffer()
        self._whole.zero_grad()

    @torch.no_grad()
    def step(self, *, empty: bool = False) -> dict[str, float]:
        """Clip, step, advance the schedule. A non-finite gradient norm skips the update but not the schedule, and so does
        `empty`, a mini-batch without a token to learn from.

        Returns `grad_norm` (before clipping), `lr`, and `skipped_steps` so far, equal on every process.
        """
        rate = self.settings.learning_rate(self.steps_done)
        for group in self._whole.param_groups:
            group["lr"] = rate
            group["weight_decay"] = self.settings.weight_decay * group["wd_mult"]
        self._whole.prepare_grads()
        norm = float(self._whole.get_grad_norm())
        if math.isfinite(norm) and not empty:
            with named_as_on_cuda():
                self._clip(norm)
                self._whole.step_with_ready_grads()
        else:
            self.steps_skipped += 1
        self.steps_done += 1
        self.zero_grad()
        return {"grad_norm": norm, "lr": rate, "skipped_steps": float(self.steps_skipped)}

    @property
    def adam_steps(self) -> int:
        """Steps that were not skipped, as AdamW counts them."""
        return self.steps_done - self.steps_skipped

    def masters(self) -> Iterator[tuple[nn.Parameter, Tensor]]:
        """Each parameter with its float32 values, in its own shape. Collective over the copies of the model."""
        return ((parameter, self.master(parameter)) for parameter in self._parameters())

    def master(self, parameter: nn.Parameter) -> Tensor:
        """The parameter's float32 values, in its own shape. Collective over the copies of the model."""
        return parameter.detach() if parameter.dtype == torch.float32 else self._gathered(parameter, None)

    def moments(self, name: str) -> Iterator[tuple[nn.Parameter, Tensor]]:
        """Each parameter with one of its `MOMENTS`, in its own shape. Collective over the copies of the model."""
        for parameter in self._parameters():
            yield parameter, self._gathered(parameter, name)

    @torch.no_grad()
    def set_masters(self, values: Iterable[tuple[nn.Parameter, Tensor]]) -> None:
        """Parameters to float32 `values` in their shapes, which the arithmetic's own are rounded from."""
        for parameter, value in values:
            share = self._shares.get(parameter)
            parameter.copy_(value)
            if share is not None:
                share.main.copy_(value.reshape(-1)[share.start : share.end])

    def set_moments(self, moments: Mapping[str, Iterable[tuple[nn.Parameter, Tensor]]], steps: float) -> None:
        """Each of the `MOMENTS` in the parameters' shapes, after so many steps; parameters without any start anew.

        Of each tensor this process's share is kept, before the next one is asked for.
        """
        for one in self._each():
            one.optimizer.state.clear()
        for name, values in moments.items():
            for parameter, value in values:
                share = self._shares.get(parameter)
                if share is not None:
                    state = share.adam.state.setdefault(share.main, {})
                    state[name] = value.reshape(-1)[share.start : share.end].clone()
                    _set_steps(share, state, steps)

    def tensors(self) -> Iterator[Tensor]:
        """All that has numbers worth keeping when the model leaves its device."""
        for part in self.parts:
            for buffer in (*part.buffers, *part.expert_parallel_buffers):
                yield buffer.param_data
            yield from part.module.parameters()
        for one in self._each():
            for main in one.get_parameters():
                yield main
                yield from (value for value in one.optimizer.state.get(main, {}).values() if isinstance(value, Tensor))

    def gradient_buffers(self) -> Iterator[Tensor]:
        """Zero between steps."""
        for part in self.parts:
            yield from (buffer.grad_data for buffer in (*part.buffers, *part.expert_parallel_buffers))

    def _parameters(self) -> Iterator[nn.Parameter]:
        """In the order that all copies of the model have them in."""
        for part in self.parts:
            yield from part.module.parameters()

    def _find_shares(self) -> dict[nn.Parameter, _Share]:
        """Of every parameter that this process steps a part of; float32 ones and others are in lists of their own."""
        found: dict[nn.Parameter, _Share] = {}
        for one in self._each():
            wide = zip(one.model_fp32_groups, one.shard_fp32_groups, strict=True)
            narrow = zip(one.model_float16_groups, one.shard_fp32_from_float16_groups, strict=True)
            for parameters, mains in (*wide, *narrow):
                for parameter, main in zip(parameters, mains, strict=True):
                    span = one._get_model_param_range_map(parameter)["param"]
                    found[parameter] = _Share(one.optimizer, main, span.start, span.end)
        return found

    def _gathered(self, parameter: nn.Parameter, moment: str | None) -> Tensor:
        """The shares of all copies of the model, put together; zeros for a moment that is not there yet."""
        whole = torch.zeros(parameter.numel(), dtype=torch.float32, device=parameter.device)
        share = self._shares.get(parameter)
        if share is not None:
            held = share.main if moment is None else share.adam.state.get(share.main, {}).get(moment)
            if held is not None:
                whole[share.start : share.end] = held.detach()
        is_expert = not getattr(parameter, "allreduce", True)
        group = (
            parallel_state.get_expert_data_parallel_group() if is_expert else parallel_state.get_data_parallel_group()
        )
        if dist.get_world_size(group) > 1:
            # As whole numbers: adding up zeros elsewhere then changes no bit, not even a zero's sign.
            dist.all_reduce(whole.view(torch.int32), group=group)
        return whole.view(parameter.shape)

    def _clip(self, norm: float) -> None:
        for one in self._each():
            parameters = one.get_parameters()
            if parameters:
                clip_grad_by_total_norm_fp32(parameters, self.settings.max_grad_norm, norm)

    def _each(self) -> list[Any]:
        """One for the parameters that all copies of the model have, one for experts."""
        found: list[Any] = [one for one in self._whole.chained_optimizers if one.optimizer is not None]
        return found


def _set_steps(share: _Share, state: dict[str, Tensor], steps: float) -> None:
    if isinstance(share.adam, torch.optim.AdamW):
        state["step"] = torch.tensor(steps, dtype=torch.float32)  # a count of its own: AdamW counts in place
        return
    for group in share.adam.param_groups:
        group["step"] = int(steps)
