"""Batches of prompts answered one after another, in which one bad row does not take the others with it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Protocol

from rlkit.errors import ClusterError, RLKitError
from rlkit.plugin.references import describe_error
from rlkit.protocols import RolloutEngine
from rlkit.rollout.collector import collect_rollouts
from rlkit.types import Prompt, PromptBatch, Rollouts, SamplingParams


@dataclass(frozen=True)
class FailedPrompt:
    """A prompt that was given up, and why, on one line."""

    prompt: Prompt
    error: str


@dataclass(frozen=True, eq=False)
class AnsweredBatch:
    """rollouts: the answers to all other prompts of the batch, in order, groups counted from 0; None when all failed."""

    rollouts: Rollouts | None
    failed: tuple[FailedPrompt, ...] = ()


class AnswersBatches(Protocol):
    """Implemented by `answer_in_process` and by `rlkit.cluster.replicated_engine.ReplicatedEngine.answer_batches`."""

    def __call__(
        self, batches: Iterable[PromptBatch], sampling: SamplingParams, *, keep_going: bool
    ) -> Iterator[AnsweredBatch]:
        """The batches in order; keep_going tells failing prompts apart and passes over them, else the first one raises."""
        ...


@dataclass(frozen=True)
class InProcessAnswers:
    """`AnswersBatches` with an engine of this process."""

    engine: RolloutEngine

    def __call__(
        self, batches: Iterable[PromptBatch], sampling: SamplingParams, *, keep_going: bool
    ) -> Iterator[AnsweredBatch]:
        for batch in batches:
            if not keep_going:
                yield AnsweredBatch(collect_rollouts(self.engine, batch, sampling))
                continue
            parts, failed = answer_apart(self.engine, batch, sampling)
            yield AnsweredBatch(Rollouts.join(parts) if parts else None, tuple(failed))


def reason_of(error: BaseException) -> str:
    """On one line; errors that rlkit raises on purpose speak for themselves, others with their type."""
    return " ".join(str(error).split()) if isinstance(error, RLKitError) else describe_error(error)


def answer_apart(
    engine: RolloutEngine, batch: PromptBatch, sampling: SamplingParams
) -> tuple[list[Rollouts], list[FailedPrompt]]:
    """Answers and failures, found by halving whatever fails: a bad prompt costs a few calls, not a call for each prompt."""
    try:
        return [collect_rollouts(engine, batch, sampling)], []
    except ClusterError:
        raise
    except Exception as error:
        if len(batch) == 1:
            return [], [FailedPrompt(batch.prompts[0], reason_of(error))]
    middle = len(batch) // 2
    parts, failed = answer_apart(engine, batch.select(range(middle)), sampling)
    more, too = answer_apart(engine, batch.select(range(middle, len(batch))), sampling)
    return parts + more, failed + too
