"""Linear layers in training on a CPU, by oneDNN where that is the faster library.

torch multiplies float32 matrices with MKL, which does without AVX-512 on processors that are not Intel's; oneDNN, built
into the same torch, uses what is there: all three products of a layer take half the time on an AMD EPYC (Zen 5). Its
operator is the one that torch.compile calls; where it is missing or answers otherwise, nothing changes.
"""

from __future__ import annotations

import functools
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from rlkit_fsdp.pass_size import FAST_ROWS


def padding_to_fast_rows(tokens: int, device: torch.device | str) -> int:
    """How many tokens more make `tokens` a number that a `FastLinear` is fast with; 0 where there are none.

    oneDNN compiles and keeps code for every number of rows that it meets; multiples of `FAST_ROWS` are few.
    """
    return -tokens % FAST_ROWS if torch.device(device).type == "cpu" and tokens > FAST_ROWS and _works() else 0


class FastLinear(nn.Linear):
    """An `nn.Linear` that already exists takes this class; parameters and state dict stay what they are."""

    def forward(self, input: Tensor) -> Tensor:
        rows = input.numel() // self.in_features
        plain = input.dtype != torch.float32 or self.weight.dtype != torch.float32 or input.device.type != "cpu"
        if plain or rows == 0 or rows % FAST_ROWS or torch.is_autocast_enabled("cpu"):
            return super().forward(input)
        output: Tensor = _Product.apply(input.reshape(rows, self.in_features), self.weight, self.bias)  # type: ignore[no-untyped-call]
        return output.view(*input.shape[:-1], self.out_features)


class _Product(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, input: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(input if ctx.needs_input_grad[1] else None, weight)
        return _multiply(input, weight, bias)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        (grad,) = grads
        input, weight = ctx.saved_tensors
        return (
            _multiply(grad, weight.t(), None) if ctx.needs_input_grad[0] else None,
            _multiply(grad.t(), input.t(), None) if ctx.needs_input_grad[1] else None,
            grad.sum(dim=0) if ctx.needs_input_grad[2] else None,
        )


def use_fast_linear(model: nn.Module, device: torch.device | str) -> None:
    """Let the plain linear layers of a model on the CPU multiply with oneDNN; anywhere else nothing changes."""
    if torch.device(device).type == "cpu" and _works():
        for module in model.modules():
            if type(module) is nn.Linear:
                module.__class__ = FastLinear


def _multiply(input: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    output: Tensor = torch.ops.mkldnn._linear_pointwise(input, weight, bias, "none", [], "")
    return output


@functools.cache
def _works() -> bool:
    # A private operator: try it, transposed views too, rather than trust that it is as it was.
    input, weight, bias = torch.arange(12.0).view(3, 4), torch.arange(8.0).view(2, 4), torch.tensor([0.5, -2.0])
    with torch.no_grad():
        try:
            found = [_multiply(input, weight, bias), _multiply(input.t(), weight.new_ones(2, 3), None)]
            found.append(_multiply(input.t(), input.t(), None))
        except (AttributeError, RuntimeError, TypeError):
            return False
        expected = [nn.functional.linear(input, weight, bias), input.t() @ torch.ones(3, 2), input.t() @ input]
        return all(torch.allclose(a, b) for a, b in zip(found, expected, strict=True))
