"""Log-probs and entropy of given tokens from hidden states, without ever holding `[tokens, vocabulary]` logits.

    forward,  chunk by chunk:  logits = h W^T / T;  lse = logsumexp;  log p(y) = logits[y] - lse;  H = lse - sum p logits
    backward, chunk by chunk:  logits again;  dlogits = g_logp (onehot(y) - p) - g_H p (log p + H);  dh, dW from dlogits

Memory is one chunk of logits instead of all of them; the price is computing the logits a second time.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor

from rlkit.algos.chunk_size import chunk_rows


class TokenStatistics(NamedTuple):
    """Of each token [T], nats: log_probs and entropy, differentiable; probability_squares, the sum of the squared
    probabilities over the vocabulary, without gradient and only when asked for."""

    log_probs: Tensor
    entropy: Tensor
    probability_squares: Tensor | None


def _accumulation_dtype(hidden: Tensor) -> torch.dtype:
    return torch.promote_types(hidden.dtype, torch.float32)


def _chunk_logits(hidden: Tensor, weight: Tensor, bias: Tensor | None, temperature: float) -> Tensor:
    logits = torch.nn.functional.linear(hidden, weight, bias)
    logits = logits.to(_accumulation_dtype(hidden))
    return logits if temperature == 1.0 else logits / temperature


class _ChunkedLogProbs(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        hidden: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        targets: Tensor,
        temperature: float,
        probability_squares: bool,
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        log_probs = torch.empty(len(targets), dtype=_accumulation_dtype(hidden), device=hidden.device)
        entropy = torch.empty_like(log_probs)
        squares = torch.empty_like(log_probs) if probability_squares else None
        rows = chunk_rows(weight.shape[0])
        for start in range(0, len(targets), rows):
            part = slice(start, start + rows)
            logits = _chunk_logits(hidden[part], weight, bias, temperature)
            chosen = logits.gather(1, targets[part, None]).squeeze(1)
            lse = torch.logsumexp(logits, dim=1)
            log_probs[part] = chosen - lse
            probabilities = torch.softmax(logits, dim=1)
            entropy[part] = lse - torch.linalg.vecdot(probabilities, logits)
            if squares is not None:
                squares[part] = torch.linalg.vecdot(probabilities, probabilities)
        ctx.save_for_backward(hidden, weight, bias, targets, entropy)
        ctx.temperature = temperature
        if squares is not None:
            ctx.mark_non_differentiable(squares)
        return log_probs, entropy, squares

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> tuple[Tensor | None, ...]:
        grad_log_probs, grad_entropy, _ = grads
        hidden, weight, bias, targets, entropy = ctx.saved_tensors
        grad_hidden = torch.empty_like(hidden) if ctx.needs_input_grad[0] else None
        grad_weight = torch.zeros_like(weight, dtype=_accumulation_dtype(hidden)) if ctx.needs_input_grad[1] else None
        grad_bias = torch.zeros_like(bias, dtype=_accumulation_dtype(hidden)) if ctx.needs_input_grad[2] else None
        uses_entropy = bool(grad_entropy.any())
        rows = chunk_rows(weight.shape[0])
        for start in range(0, len(targets), rows):
            part = slice(start, start + rows)
            log_p = torch.log_softmax(_chunk_logits(hidden[part], weight, bias, ctx.temperature), dim=1)
            probabilities = log_p.exp()
            grad_logits = probabilities * -grad_log_probs[part, None]
            grad_logits.scatter_add_(1, targets[part, None], grad_log_probs[part, None])
            if uses_entropy:
                grad_logits -= grad_entropy[part, None] * probabilities * (log_p + entropy[part, None])
            grad_logits = (grad_logits / ctx.temperature).to(hidden.dtype)
            if grad_hidden is not None:
                grad_hidden[part] = grad_logits @ weight
            if grad_weight is not None:
                grad_weight += grad_logits.T @ hidden[part]
            if grad_bias is not None:
                grad_bias += grad_logits.sum(dim=0)
        return (
            grad_hidden,
            None if grad_weight is None else grad_weight.to(weight.dtype),
            None if grad_bias is None else grad_bias.to(bias.dtype),
            None,
            None,
            None,
        )


def chunked_log_probs(
    hidden: Tensor,
    weight: Tensor,
    targets: Tensor,
    *,
    temperature: float = 1.0,
    bias: Tensor | None = None,
    probability_squares: bool = False,
) -> TokenStatistics:
    """Log-probs of `targets`, entropies and, when asked for, sums of squared probabilities; float64 for float64 inputs,
    else float32.

    hidden [T, D] last hidden states; weight [V, D] and bias [V] of the language-model head; targets [T] int64.
    All are of softmax(logits / temperature).
    """
    return TokenStatistics(
        *_ChunkedLogProbs.apply(hidden, weight, bias, targets, temperature, probability_squares)  # type: ignore[no-untyped-call]
    )
