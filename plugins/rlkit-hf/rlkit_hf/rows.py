"""One answer in the making."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from torch import Tensor

from rlkit.rollout.stop_strings import StopStrings
from rlkit.types import FinishReason, SamplingParams, TopLogProbs


@dataclass(eq=False)
class Row:
    """A prompt and the answer to it so far.

    key            names the row's random numbers
    stop_ids       tokens that end the answer
    stop_strings   strings that do, or None
    top_log_probs  how many alternatives to record at each position
    alternatives   aligned with token_ids when asked for, else empty
    seen           [V] bool, tokens of prompt and answer; only with a repetition penalty, and only while it runs
    """

    prompt_ids: Sequence[int]
    sampling: SamplingParams
    key: int
    stop_ids: frozenset[int]
    stop_strings: StopStrings | None = None
    top_log_probs: int = 0
    token_ids: list[int] = field(default_factory=list)
    log_probs: list[float] = field(default_factory=list)
    alternatives: list[TopLogProbs] = field(default_factory=list)
    finish_reason: FinishReason | None = None
    seen: Tensor | None = None

    @property
    def num_tokens(self) -> int:
        """Of the prompt and of the answer so far."""
        return len(self.prompt_ids) + len(self.token_ids)

    @property
    def last_token(self) -> int:
        return self.token_ids[-1]

    def add(self, token: int, log_prob: float) -> None:
        """Record a token and judge whether it ends the answer."""
        self.token_ids.append(token)
        self.log_probs.append(log_prob)
        if token in self.stop_ids or (self.stop_strings is not None and self.stop_strings.end(self.token_ids)):
            self.finish_reason = "stop"
        elif len(self.token_ids) >= self.sampling.max_tokens:
            self.finish_reason = "length"
