"""One answer asked of an engine while it is busy with others, and the pieces in which it comes back."""

from __future__ import annotations

from dataclasses import dataclass

from rlkit.types.rollouts import FinishReason
from rlkit.types.sampling import SamplingParams

TopLogProbs = tuple[tuple[int, float], ...]
"""The likeliest tokens at one position: (token id, log-prob in nats), the likeliest first."""


@dataclass(frozen=True)
class CompletionRequest:
    """One prompt to be answered once; n answers are n requests.

    request_id     chosen by the caller, different from every other live request
    prompt_ids     at least one token
    sampling       `samples` is 1
    top_log_probs  how many alternatives to name at each position, besides the chosen token's log-prob
    row_id         names the random numbers together with `sampling.seed`: the answer is the one that `generate` gives
                   to a prompt of this `Prompt.row_id` with the same seed. Requests that may share a seed differ here, or in
                   `sample`.
    sample         of the answers to this row, which one it is, counted from 0: as `generate` counts them
    images         as `Prompt.images`, in the order of their placeholder tokens in prompt_ids
    """

    request_id: str
    prompt_ids: tuple[int, ...]
    sampling: SamplingParams
    top_log_probs: int = 0
    row_id: int = 0
    sample: int = 0
    images: tuple[bytes, ...] = ()

    def __post_init__(self) -> None:
        if self.sampling.samples != 1:
            raise ValueError(
                f"request {self.request_id} asks for {self.sampling.samples} samples; make as many requests"
            )


@dataclass(frozen=True)
class CompletionChunk:
    """The next tokens of one answer; its chunks one after another are the answer.

    token_ids       what was sampled since the last chunk, the token that ends the answer included
    log_probs       nats, aligned with token_ids, as `SamplingParams` defines them; empty from an engine that gives none
    top_log_probs   aligned with token_ids when asked for, else empty; from the distribution that log_probs come from
    finish_reason   None while there is more to come
    policy_version  version of the weights that sampled these tokens
    """

    request_id: str
    token_ids: tuple[int, ...]
    log_probs: tuple[float, ...]
    top_log_probs: tuple[TopLogProbs, ...]
    finish_reason: FinishReason | None
    policy_version: int
