"""Linear layers in float32 on the CPU, by oneDNN where that is the faster library.

torch multiplies float32 matrices with MKL, which does without AVX-512 on processors that are not Intel's; oneDNN, built
into the same torch, uses what is there: 2.2 times as fast on an AMD EPYC (Zen 5), about the same on Intel's. Its operator
is the one that torch.compile calls; where it is missing or answers otherwise, nothing changes.
"""

from __future__ import annotations

import functools

import torch
from torch import Tensor, nn

PIECES = (64, 32, 16)
"""Rows are multiplied in pieces of these sizes, and what is left by torch itself, which is as fast with so few. oneDNN
compiles and keeps about half a megabyte for every number of rows that it meets; beyond 64 it gains a tenth."""


def padded_size(rows: int) -> int:
    """The next number of rows that consists of few pieces."""
    whole, rest = divmod(rows, PIECES[0])
    return whole * PIECES[0] + min((size for size in PIECES if size >= rest), default=0) * (rest > 0)


class OneDNNLinear(nn.Linear):
    """An `nn.Linear` that already exists takes this class; parameters and state dict stay what they are."""

    def forward(self, input: Tensor) -> Tensor:
        rows = input.numel() // self.in_features
        if rows < PIECES[-1] or input.dtype != torch.float32:
            return super().forward(input)
        if rows in PIECES:
            return _multiply(input, self.weight, self.bias)
        flat = input.reshape(rows, self.in_features)
        output = flat.new_empty(rows, self.out_features)
        start = 0
        while rows - start >= PIECES[-1]:
            end = start + next(size for size in PIECES if size <= rows - start)
            output[start:end] = _multiply(flat[start:end], self.weight, self.bias)
            start = end
        if start < rows:
            output[start:] = super().forward(flat[start:])
        return output.view(*input.shape[:-1], self.out_features)


def use_fast_linear(model: nn.Module) -> None:
    """Let the plain linear layers of a model on the CPU, used without gradients, multiply with oneDNN."""
    if not _works():
        return
    for module in model.modules():
        if type(module) is nn.Linear and module.weight.device.type == "cpu" and module.weight.dtype == torch.float32:
            module.__class__ = OneDNNLinear


def _multiply(input: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    output: Tensor = torch.ops.mkldnn._linear_pointwise(input, weight, bias, "none", [], "")
    return output


@functools.cache
def _works() -> bool:
    # A private operator: try it rather than trust that it is as it was.
    input, weight, bias = torch.arange(12.0).view(1, 3, 4), torch.arange(8.0).view(2, 4), torch.tensor([0.5, -2.0])
    with torch.inference_mode():
        try:
            found = [_multiply(input, weight, bias), _multiply(input, weight, None)]
        except (AttributeError, RuntimeError, TypeError):
            return False
        expected = [nn.functional.linear(input, weight, bias), nn.functional.linear(input, weight)]
        return all(torch.allclose(a, b) for a, b in zip(found, expected, strict=True))
