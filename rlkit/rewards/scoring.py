"""Rollouts in, verdicts out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from rlkit.protocols import Tokenizer
from rlkit.rewards.judging import JudgingReport
from rlkit.types import Reward, Rollouts, Sample


class PendingVerdicts(Protocol):
    """What `rlkit.rewards.judging.Judging` is."""

    def result(self) -> list[Reward]: ...

    def report(self) -> JudgingReport: ...


class ScoresSamples(Protocol):
    """What `rlkit.rewards.scorer.build_scorer` returns."""

    def begin(self, samples: Sequence[Sample]) -> PendingVerdicts: ...

    def score(self, samples: Sequence[Sample]) -> list[Reward]: ...


def decode_responses(rollouts: Rollouts, tokenizer: Tokenizer) -> list[str]:
    """The answers as text, special tokens left out; of a conversation the policy's last turn.

    That is what a function which reads a final answer expects: a number in a tool's output is no answer.
    """
    rows = zip(rollouts.response_ids.rows(), rollouts.response_mask.rows(), strict=True)
    return tokenizer.batch_decode(
        [ids[_last_turn_start(mask.tolist()) :].tolist() for ids, mask in rows], skip_special_tokens=True
    )


def samples_of(rollouts: Rollouts, responses: Sequence[str]) -> list[Sample]:
    """What is judged of each row."""
    lengths = rollouts.response_ids.lengths.tolist()
    conversations = rollouts.conversations or [None] * len(rollouts)
    return [
        Sample(prompt, response, reason, length, conversation)
        for prompt, response, reason, length, conversation in zip(
            rollouts.prompts, responses, rollouts.finish_reasons, lengths, conversations, strict=True
        )
    ]


def score_rollouts(rollouts: Rollouts, responses: Sequence[str], scorer: ScoresSamples) -> list[Reward]:
    """One verdict for each row, waited for."""
    return scorer.score(samples_of(rollouts, responses))


def _last_turn_start(mask: Sequence[bool]) -> int:
    """Where the last stretch of sampled tokens begins; a row ends with one."""
    return next((index + 1 for index in range(len(mask) - 1, -1, -1) if not mask[index]), 0)
