"""Summed cross-entropy of given tokens from hidden states, without ever holding `[tokens, vocabulary]` logits.

    chunk by chunk:  logits = h W^T;  lse = logsumexp;  loss += lse - logits[y];  dlogits = softmax - onehot(y)
                     dh = dlogits W;  dW += dlogits^T h

The loss is a plain sum, so its gradients are known up to one factor as soon as the logits are there: they are made in the
forward pass, and no logits are made twice (`log_probs` has to, since each of its tokens gets a gradient of its own).
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from rlkit.algos.chunk_size import chunk_rows


class _SummedCrossEntropy(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, hidden: Tensor, weight: Tensor, bias: Tensor | None, targets: Tensor, with_gradients: bool
    ) -> Tensor:
        wide = torch.promote_types(hidden.dtype, torch.float32)
        wanted = [with_gradients and wants for wants in ctx.needs_input_grad[:3]]
        grad_hidden = torch.empty_like(hidden) if wanted[0] else None
        grad_weight = torch.zeros_like(weight, dtype=wide) if wanted[1] else None
        grad_bias = torch.zeros_like(bias, dtype=wide) if bias is not None and wanted[2] else None
        total = torch.zeros((), dtype=torch.float64, device=hidden.device)
        rows = chunk_rows(weight.shape[0])
        for start in range(0, len(targets), rows):
            part = slice(start, start + rows)
            logits = torch.nn.functional.linear(hidden[part], weight, bias).to(wide)
            chosen = targets[part, None]
            lse = torch.logsumexp(logits, dim=1, keepdim=True)
            total += (lse - logits.gather(1, chosen)).sum(dtype=torch.float64)
            if not any(wanted):
                continue
            slopes = logits.sub_(lse).exp_()
            slopes.scatter_add_(1, chosen, torch.full_like(lse, -1.0))
            if grad_bias is not None:
                grad_bias += slopes.sum(dim=0)
            slopes = slopes.to(hidden.dtype)
            if grad_hidden is not None:
                torch.mm(slopes, weight, out=grad_hidden[part])
            if grad_weight is not None:
                grad_weight += slopes.T @ hidden[part]
        ctx.save_for_backward(grad_hidden, grad_weight, grad_bias)
        ctx.weight_dtype = weight.dtype
        return total

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        hidden, weight, bias = ctx.saved_tensors
        return (
            None if hidden is None else _scaled(hidden, grads[0], hidden.dtype),
            None if weight is None else _scaled(weight, grads[0], ctx.weight_dtype),
            None if bias is None else _scaled(bias, grads[0], ctx.weight_dtype),
            None,
            None,
        )


def _scaled(grad: Tensor, factor: Tensor, dtype: torch.dtype) -> Tensor:
    """`grad * factor` in `dtype`, the product rounded once and the factor not to eight bits first.

    As a tensor with a dimension the factor makes the arithmetic float32; a GPU then needs no float32 copy of `grad`.
    """
    wide = torch.promote_types(grad.dtype, torch.float32)
    return torch.mul(grad, factor.to(wide).reshape(1), out=torch.empty_like(grad, dtype=dtype))


def summed_cross_entropy(hidden: Tensor, weight: Tensor, targets: Tensor, *, bias: Tensor | None = None) -> Tensor:
    """Sum of -log softmax(logits)[target] over the tokens, in nats, a float64 scalar.

    hidden [T, D] last hidden states; weight [V, D] and bias [V] of the language-model head; targets [T] int64.
    """
    total: Tensor = _SummedCrossEntropy.apply(hidden, weight, bias, targets, torch.is_grad_enabled())  # type: ignore[no-untyped-call]
    return total
