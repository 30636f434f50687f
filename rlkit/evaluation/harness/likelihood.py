"""How likely a model finds given continuations."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch

BATCH_TOKENS = 8192
"""Most positions in one forward pass, padding included."""


@dataclass(frozen=True)
class Continuation:
    """Token ids of what is given (at least one) and of what is judged (at least one)."""

    given: Sequence[int]
    judged: Sequence[int]


@dataclass(frozen=True)
class Likelihood:
    """log_prob: of all judged tokens together, in nats. is_greedy: each of them is the likeliest at its place."""

    log_prob: float
    is_greedy: bool


def likelihoods(
    model: Any,
    continuations: Sequence[Continuation],
    *,
    context_length: int,
    device: str,
    batch_tokens: int = BATCH_TOKENS,
    on_batch: Callable[[Sequence[int], Sequence[Likelihood]], None] = lambda rows, found: None,
) -> list[Likelihood]:
    """In the order of `continuations`. What is longer than the context loses its beginning, never what is judged.

    model: a causal language model of transformers. on_batch is told the rows of each pass and what was found for them.
    Raises `ValueError` for a continuation that alone is longer than the context.
    """
    for row, continuation in enumerate(continuations):
        if not continuation.given or not 0 < len(continuation.judged) <= context_length:
            raise ValueError(
                f"continuation {row} has {len(continuation.given)} tokens before and {len(continuation.judged)} judged; "
                f"it takes at least one of each, and at most {context_length} judged"
            )
    inputs = [[*item.given, *item.judged][-(context_length + 1) : -1] for item in continuations]
    found: list[Likelihood | None] = [None] * len(continuations)
    for rows in _batches([len(ids) for ids in inputs], batch_tokens):
        batch = _pass(model, [inputs[row] for row in rows], [continuations[row].judged for row in rows], device)
        for row, likelihood in zip(rows, batch, strict=True):
            found[row] = likelihood
        on_batch(rows, batch)
    return [likelihood for likelihood in found if likelihood is not None]


@torch.no_grad()
def _pass(
    model: Any, inputs: Sequence[Sequence[int]], judged: Sequence[Sequence[int]], device: str
) -> list[Likelihood]:
    """Padding is on the right, where a causal model's answers for what is before it do not depend on it."""
    longest = max(map(len, inputs))
    ids = torch.zeros(len(inputs), longest, dtype=torch.long)
    mask = torch.zeros_like(ids)
    for row, tokens in enumerate(inputs):
        ids[row, : len(tokens)] = torch.tensor(tokens)
        mask[row, : len(tokens)] = 1
    logits = model(input_ids=ids.to(device), attention_mask=mask.to(device), use_cache=False).logits
    found = []
    for row, (tokens, targets) in enumerate(zip(inputs, judged, strict=True)):
        log_probs = logits[row, len(tokens) - len(targets) : len(tokens)].float().log_softmax(dim=-1)
        wanted = torch.tensor(targets, device=log_probs.device)
        chosen = log_probs.gather(-1, wanted[:, None])
        found.append(Likelihood(float(chosen.sum()), bool((log_probs.argmax(dim=-1) == wanted).all())))
    return found


def _batches(lengths: Sequence[int], batch_tokens: int) -> Iterator[list[int]]:
    """Rows of about one length together, the longest first: what does not fit is found out at once."""
    rows: list[int] = []
    longest = 0
    for row in sorted(range(len(lengths)), key=lambda index: (-lengths[index], index)):
        if rows and (len(rows) + 1) * longest > batch_tokens:
            yield rows
            rows, longest = [], 0
        rows.append(row)
        longest = max(longest, lengths[row])
    if rows:
        yield rows
