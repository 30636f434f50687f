"""What a reward function sees and what it answers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from rlkit.types.prompts import Prompt
from rlkit.types.rollouts import FinishReason


@dataclass(frozen=True)
class Sample:
    """One answer to be judged."""

    prompt: Prompt
    response: str  # the decoded answer, special tokens left out
    finish_reason: FinishReason = "stop"
    num_response_tokens: int = 0


@dataclass(frozen=True)
class Reward:
    """The verdict on one answer.

    score  what is optimised; finite
    parts  named contributions or diagnostics (for example {"correct": 1.0, "format": 0.2}); finite
    error  set when the answer could not be judged; the score is then not to be trusted
    """

    score: float
    parts: Mapping[str, float] = field(default_factory=dict)
    error: str | None = None
