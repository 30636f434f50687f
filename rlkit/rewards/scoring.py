"""Rollouts in, verdicts out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from rlkit.protocols import Tokenizer
from rlkit.types import Reward, Rollouts, Sample


class ScoresSamples(Protocol):
    """What `rlkit.rewards.scorer.build_scorer` returns."""

    def score(self, samples: Sequence[Sample]) -> list[Reward]: ...


def decode_responses(rollouts: Rollouts, tokenizer: Tokenizer) -> list[str]:
    """The answers as text, special tokens left out."""
    return tokenizer.batch_decode([row.tolist() for row in rollouts.response_ids.rows()], skip_special_tokens=True)


def score_rollouts(rollouts: Rollouts, responses: Sequence[str], scorer: ScoresSamples) -> list[Reward]:
    """One verdict for each row."""
    lengths = rollouts.response_ids.lengths.tolist()
    samples = [
        Sample(prompt=prompt, response=response, finish_reason=reason, num_response_tokens=length)
        for prompt, response, reason, length in zip(
            rollouts.prompts, responses, rollouts.finish_reasons, lengths, strict=True
        )
    ]
    return scorer.score(samples)
