"""Choosing one token from logits."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from rlkit.types import SamplingParams


def choose_token(
    logits: Tensor, sampling: SamplingParams, generator: torch.Generator, *, seen: Sequence[int]
) -> tuple[int, float]:
    """A token and its log-prob (nats) for `logits` [V] float32; `seen` are prompt and answer so far.

    The log-prob is that of softmax(logits / temperature), before the repetition penalty and the filters: what the trainer
    recomputes. Greedy decoding reports it at temperature 1.
    """
    temperature = sampling.temperature or 1.0
    log_probs = torch.log_softmax(logits / temperature, dim=0)
    scores = penalise_repetition(logits, seen, sampling.repetition_penalty) / temperature
    if sampling.temperature == 0:
        token = int(scores.argmax())
    else:
        token = int(torch.multinomial(torch.softmax(keep_likely(scores, sampling), dim=0), 1, generator=generator))
    return token, float(log_probs[token])


def penalise_repetition(logits: Tensor, seen: Sequence[int], penalty: float) -> Tensor:
    """Keskar et al. 2019, arXiv:1909.05858, section 4.1, with transformers' rule for negative logits."""
    if penalty == 1:
        return logits
    index = torch.tensor(sorted(set(seen)))
    chosen = logits[index]
    return logits.index_put((index,), torch.where(chosen < 0, chosen * penalty, chosen / penalty))


def keep_likely(scores: Tensor, sampling: SamplingParams) -> Tensor:
    """`scores` [V] with -inf on what top-k, then top-p, then min-p drop; the likeliest token always stays."""
    if 0 < sampling.top_k < len(scores):
        scores = scores.masked_fill(scores < scores.topk(sampling.top_k).values[-1], float("-inf"))
    if sampling.top_p < 1:
        ordered, index = torch.softmax(scores, dim=0).sort(descending=True)
        # A token stays while the mass before it is below top_p.
        dropped = index[ordered.cumsum(0) - ordered >= sampling.top_p]
        scores = scores.index_fill(0, dropped, float("-inf"))
    if sampling.min_p > 0:
        probabilities = torch.softmax(scores, dim=0)
        scores = scores.masked_fill(probabilities < sampling.min_p * probabilities.max(), float("-inf"))
    return scores
