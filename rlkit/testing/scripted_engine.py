"""A rollout engine that says what it is told to: for tests of conversations, tools and environments."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch

from rlkit.types import FinishReason, PromptBatch, Ragged, Rollouts, SamplingParams

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Asked:
    """One prompt of one call."""

    row_id: int
    token_ids: tuple[int, ...]
    sampling: SamplingParams
    conversation: str = ""


@dataclass
class ScriptedEngine:
    """Answers a prompt with `script(token_ids)`, as token ids; what is over `max_tokens` is cut and finished by length.

    The log-prob of a token is -1 / (2 + its id): different for different tokens, and never 0.
    """

    script: Callable[[Sequence[int]], Sequence[int]]
    version: int = 0
    with_log_probs: bool = True
    asked: list[list[Asked]] = field(default_factory=list)

    def generate(self, prompts: PromptBatch, sampling: SamplingParams) -> Rollouts:
        rows = [row for row in range(len(prompts)) for _ in range(sampling.samples)]
        names = prompts.conversations or ("",) * len(prompts)
        self.asked.append(
            [Asked(prompts.prompts[row].row_id, prompts.token_ids[row], sampling, names[row]) for row in rows]
        )
        whole = [list(self.script(prompts.token_ids[row])) for row in rows]
        reasons: list[FinishReason] = ["length" if len(ids) > sampling.max_tokens else "stop" for ids in whole]
        responses = Ragged.from_rows([ids[: sampling.max_tokens] for ids in whole], dtype=torch.int64)
        return Rollouts(
            prompt_ids=Ragged.from_rows([prompts.token_ids[row] for row in rows], dtype=torch.int64),
            response_ids=responses,
            response_mask=responses.with_values(torch.ones(responses.num_tokens, dtype=torch.bool)),
            rollout_log_probs=responses.with_values(log_probs_of(responses.values)) if self.with_log_probs else None,
            group_ids=torch.tensor(rows),
            finish_reasons=tuple(reasons),
            policy_version=self.version,
            prompts=tuple(prompts.prompts[row] for row in rows),
        )

    def resume(self, parts: Iterable[str]) -> None:
        return

    def release(self, parts: Iterable[str]) -> None:
        return

    def update_weights(self, named_tensors: Iterable[tuple[str, Tensor]], version: int) -> None:
        self.version = version

    def close(self) -> None:
        return


def log_probs_of(token_ids: Tensor) -> Tensor:
    """[N] float32: the log-probs that the engine gives."""
    return -1 / (2 + token_ids.float())
