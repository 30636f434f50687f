"""Log-probs and entropies where the vocabulary is cut over processes, without ever holding `[tokens, vocabulary]` logits.

As `rlkit.algos.log_probs`, chunk by chunk, each process with its slice of the vocabulary:

    forward   lse of the slice; all processes' lse -> lse;  sums over the slice of onehot logits, p logits, p^2, added up
    backward  logits again; dlogits of the slice; dW of the slice; dh is this process's share, which the caller adds up

The sum over processes of dh belongs to whoever cut the hidden states (megatron-core's mappings): with sequence parallelism
it ends in slices of the tokens.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from rlkit.algos.chunk_size import chunk_rows
from rlkit.algos.log_probs import TokenStatistics


class _SlicedLogProbs(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        hidden: Tensor,
        weight: Tensor,
        targets: Tensor,
        start: int,
        temperature: float,
        group: Any,
        squares: bool,
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        tokens = len(targets)
        lse = torch.empty(tokens, dtype=torch.float32, device=hidden.device)
        for part in _chunks(tokens, weight):
            lse[part] = torch.logsumexp(_logits(hidden[part], weight, temperature), dim=1)
        lse = _joined_lse(lse, group)
        sums = torch.zeros(3 if squares else 2, tokens, dtype=torch.float32, device=hidden.device)
        for part in _chunks(tokens, weight):
            logits = _logits(hidden[part], weight, temperature)
            here, index = _of_this_slice(targets[part], start, weight)
            sums[0, part] = logits.gather(1, index[:, None])[:, 0].masked_fill(~here, 0.0)
            probabilities = torch.exp(logits - lse[part, None])
            sums[1, part] = torch.linalg.vecdot(probabilities, logits)
            if squares:
                sums[2, part] = torch.linalg.vecdot(probabilities, probabilities)
        dist.all_reduce(sums, group=group)
        log_probs, entropy = sums[0] - lse, lse - sums[1]
        ctx.save_for_backward(hidden, weight, targets, lse, entropy)
        ctx.start, ctx.temperature = start, temperature
        found = sums[2] if squares else None
        if found is not None:
            ctx.mark_non_differentiable(found)
        return log_probs, entropy, found

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> tuple[Tensor | None, ...]:
        grad_log_probs, grad_entropy, _ = grads
        hidden, weight, targets, lse, entropy = ctx.saved_tensors
        grad_hidden = torch.empty_like(hidden)
        grad_weight = torch.zeros_like(weight, dtype=torch.float32)
        uses_entropy = bool(grad_entropy.any())
        for part in _chunks(len(targets), weight):
            log_p = _logits(hidden[part], weight, ctx.temperature) - lse[part, None]
            probabilities = log_p.exp()
            grad_logits = probabilities * -grad_log_probs[part, None]
            here, index = _of_this_slice(targets[part], ctx.start, weight)
            grad_logits.scatter_add_(1, index[:, None], (grad_log_probs[part] * here)[:, None])
            if uses_entropy:
                grad_logits -= grad_entropy[part, None] * probabilities * (log_p + entropy[part, None])
            grad_logits = (grad_logits / ctx.temperature).to(hidden.dtype)
            grad_hidden[part] = grad_logits @ weight
            grad_weight += grad_logits.T @ hidden[part]
        return grad_hidden, grad_weight.to(weight.dtype), None, None, None, None, None


def sliced_log_probs(
    hidden: Tensor,
    weight: Tensor,
    targets: Tensor,
    *,
    start: int,
    group: Any,
    temperature: float = 1.0,
    probability_squares: bool = False,
) -> TokenStatistics:
    """As `rlkit.algos.log_probs.chunked_log_probs`, float32, equal on all processes of `group`.

    hidden [T, D], the same on each; weight [tokens, D], this process's slice of the vocabulary, which begins at `start`;
    targets [T] int64 in the whole vocabulary. The gradient of `hidden` is this process's share of the sum.
    """
    return TokenStatistics(
        *_SlicedLogProbs.apply(hidden, weight, targets, start, temperature, group, probability_squares)  # type: ignore[no-untyped-call]
    )


def _chunks(tokens: int, weight: Tensor) -> list[slice]:
    rows = chunk_rows(weight.shape[0])
    return [slice(begin, begin + rows) for begin in range(0, tokens, rows)]


def _logits(hidden: Tensor, weight: Tensor, temperature: float) -> Tensor:
    logits = torch.nn.functional.linear(hidden, weight).float()
    return logits if temperature == 1.0 else logits / temperature


def _joined_lse(lse: Tensor, group: Any) -> Tensor:
    """Of the whole vocabulary."""
    slices = [torch.empty_like(lse) for _ in range(dist.get_world_size(group))]
    dist.all_gather(slices, lse, group=group)
    return torch.logsumexp(torch.stack(slices), dim=0)


def _of_this_slice(targets: Tensor, start: int, weight: Tensor) -> tuple[Tensor, Tensor]:
    """Which targets are in the slice, and their rows in it (0 for the others)."""
    index = targets - start
    here = (index >= 0) & (index < weight.shape[0])
    return here, index.masked_fill(~here, 0)
