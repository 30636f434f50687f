"""Scoring the answers of a completions file."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from rlkit.errors import DataError
from rlkit.generation.completions_file import CompletionRow, read_rows
from rlkit.types.prompts import Prompt
from rlkit.types.reward import Reward, Sample

ANSWERS_AT_ONCE = 256
"""Answers handed to the reward functions in one call; their time limit applies to each call."""


class JudgesAnswers(Protocol):
    """What `rlkit.rewards.scorer.build_scorer` returns."""

    def score(self, samples: Sequence[Sample]) -> list[Reward]: ...

    def extract_answers(self, samples: Sequence[Sample]) -> list[str | None] | None: ...


@dataclass(frozen=True)
class ScoredRow:
    """One prompt with the verdicts on its answers; `answers` are the extracted ones when the reward offers them."""

    prompt: Prompt
    rewards: tuple[Reward, ...]
    answers: tuple[str | None, ...] | None
    truncated: int  # answers that were cut at the token limit
    num_tokens: int  # over all answers

    @property
    def scores(self) -> list[float]:
        return [reward.score for reward in self.rewards]


@dataclass(frozen=True)
class ScoredFile:
    """A completions file, judged. unanswered: rows that have an error instead of answers; they are not among `rows`."""

    path: str
    model: str
    rows: tuple[ScoredRow, ...]
    unanswered: int = 0


def load_completions(path: str) -> list[CompletionRow]:
    """All rows of the file, those with an error too. Raises `DataError` for an empty file, a repeated row and a row without answers."""
    rows = list(read_rows(Path(path)))
    if not rows:
        raise DataError(f"completions file {path} is empty")
    seen: set[int] = set()
    for row in rows:
        if row.prompt.row_id in seen:
            raise DataError(f"completions file {path} has row_id {row.prompt.row_id} twice; each prompt needs its own")
        if not row.completions and not row.error:
            raise DataError(f"completions file {path}: row_id {row.prompt.row_id} has no completions")
        seen.add(row.prompt.row_id)
    if all(row.error for row in rows):
        raise DataError(f"completions file {path} has no answers; row_id {rows[0].prompt.row_id}: {rows[0].error}")
    return rows


def score_completions(
    path: str, rows: Sequence[CompletionRow], scorer: JudgesAnswers, *, on_progress: Callable[[int], None] | None = None
) -> ScoredFile:
    """Judge every answer; `on_progress` is told how many prompts were judged since it was last called."""
    scored: list[ScoredRow] = []
    answered = [row for row in rows if not row.error]
    for batch in _batches(answered):
        samples = [sample for row in batch for sample in row.samples]
        rewards = scorer.score(samples)
        answers = scorer.extract_answers(samples)
        start = 0
        for row in batch:
            end = start + len(row.completions)
            scored.append(
                ScoredRow(
                    prompt=row.prompt,
                    rewards=tuple(rewards[start:end]),
                    answers=None if answers is None else tuple(answers[start:end]),
                    truncated=sum(completion.finish_reason == "length" for completion in row.completions),
                    num_tokens=sum(completion.num_tokens for completion in row.completions),
                )
            )
            start = end
        if on_progress is not None:
            on_progress(len(batch))
    models = sorted({row.model for row in rows if row.model})
    return ScoredFile(path, ", ".join(models), tuple(scored), len(rows) - len(answered))


def _batches(rows: Sequence[CompletionRow]) -> list[list[CompletionRow]]:
    """Whole rows, as many as have about ANSWERS_AT_ONCE answers together."""
    batches: list[list[CompletionRow]] = [[]]
    answers = 0
    for row in rows:
        if batches[-1] and answers + len(row.completions) > ANSWERS_AT_ONCE:
            batches.append([])
            answers = 0
        batches[-1].append(row)
        answers += len(row.completions)
    return batches
