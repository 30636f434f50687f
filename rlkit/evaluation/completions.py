"""Scoring the answers of a completions file."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from rlkit.errors import DataError
from rlkit.evaluation.verdicts import Verdict, VerdictFile
from rlkit.generation.completions_file import CompletionRow, read_rows
from rlkit.types.prompts import Prompt
from rlkit.types.reward import Reward, Sample

ANSWERS_AT_ONCE = 256
"""Answers handed to the reward functions in one call; their verdicts are kept together."""


class JudgesAnswers(Protocol):
    """What `rlkit.rewards.scorer.build_scorer` returns."""

    def score(self, samples: Sequence[Sample]) -> list[Reward]: ...

    def extract_answers(self, samples: Sequence[Sample]) -> list[str | None] | None: ...


@dataclass(frozen=True)
class ScoredRow:
    """One prompt with the verdicts on its answers; `answers` are the extracted ones when the reward offers them.

    truncated         answers that were cut at the token limit
    num_tokens        over all answers
    identity          what tells the prompt from others of its data source; empty: its text
    higher_is_better  of the scores; None: nobody has said
    """

    prompt: Prompt
    rewards: tuple[Reward, ...]
    answers: tuple[str | None, ...] | None
    truncated: int
    num_tokens: int
    identity: str = ""
    higher_is_better: bool | None = True

    @property
    def scores(self) -> list[float]:
        """Of the answers that could be judged: an error is neither right nor wrong."""
        return [reward.score for reward in self.rewards if reward.error is None]

    @property
    def errors(self) -> int:
        """Answers that could not be judged."""
        return sum(reward.error is not None for reward in self.rewards)


@dataclass(frozen=True)
class ScoredFile:
    """A completions file, judged.

    label       what tables and sentences call it: the file, or the model that it is the answers of
    unanswered  rows that have an error instead of answers; they are not among `rows`
    kept        verdicts that were there already
    """

    path: str
    model: str
    rows: tuple[ScoredRow, ...]
    unanswered: int = 0
    label: str = ""
    kept: int = 0

    @property
    def name(self) -> str:
        return self.label or self.path


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
    path: str,
    rows: Sequence[CompletionRow],
    scorer: JudgesAnswers,
    *,
    label: str = "",
    verdicts: VerdictFile | None = None,
    on_progress: Callable[[int], None] | None = None,
) -> ScoredFile:
    """Judge every answer that `verdicts` does not hold a verdict on, and keep it there.

    Answers to one prompt are judged together. `on_progress` is told how many prompts were judged since it was last called.
    """
    answered = [(row, row.samples) for row in rows if not row.error]
    found: dict[int, list[Verdict]] = {}
    if verdicts is not None:
        for index, (_, samples) in enumerate(answered):
            known = verdicts.get(samples)
            if known is not None:
                found[index] = known
    kept = sum(map(len, found.values()))
    if on_progress is not None and found:
        on_progress(len(found))
    missing = [index for index in range(len(answered)) if index not in found]
    for batch in _batches(missing, [len(samples) for _, samples in answered]):
        judged = _judge([answered[index][1] for index in batch], scorer)
        if verdicts is not None:
            verdicts.add([(answered[index][1], given) for index, given in zip(batch, judged, strict=True)])
        found.update(zip(batch, judged, strict=True))
        if on_progress is not None:
            on_progress(len(batch))
    if verdicts is not None:
        verdicts.finish([samples for _, samples in answered])
    extracts = any(verdict.answer is not None for given in found.values() for verdict in given)
    scored = tuple(_scored_row(row, found[index], extracts=extracts) for index, (row, _) in enumerate(answered))
    models = sorted({row.model for row in rows if row.model})
    return ScoredFile(path, ", ".join(models), scored, len(rows) - len(answered), label, kept)


def _judge(prompts: Sequence[Sequence[Sample]], scorer: JudgesAnswers) -> list[list[Verdict]]:
    samples = [sample for answers in prompts for sample in answers]
    rewards = scorer.score(samples)
    extracted = scorer.extract_answers(samples) or [None] * len(samples)
    verdicts = iter([Verdict(reward, answer) for reward, answer in zip(rewards, extracted, strict=True)])
    return [[next(verdicts) for _ in answers] for answers in prompts]


def _scored_row(row: CompletionRow, verdicts: Sequence[Verdict], *, extracts: bool) -> ScoredRow:
    return ScoredRow(
        prompt=row.prompt,
        rewards=tuple(verdict.reward for verdict in verdicts),
        answers=tuple(verdict.answer for verdict in verdicts) if extracts else None,
        truncated=sum(completion.finish_reason == "length" for completion in row.completions),
        num_tokens=sum(completion.num_tokens for completion in row.completions),
    )


def _batches(indices: Sequence[int], answers: Sequence[int]) -> Iterator[list[int]]:
    """Whole prompts, as many as have about ANSWERS_AT_ONCE answers together; `answers` counts those of each prompt."""
    batch: list[int] = []
    size = 0
    for index in indices:
        if batch and size + answers[index] > ANSWERS_AT_ONCE:
            yield batch
            batch, size = [], 0
        batch.append(index)
        size += answers[index]
    if batch:
        yield batch
