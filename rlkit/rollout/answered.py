"""Batches of prompts answered one after another, in which one bad row does not take the others with it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Protocol

from rlkit.errors import ClusterError, RLKitError, RolloutError
from rlkit.plugin.references import describe_error
from rlkit.protocols import RolloutEngine
from rlkit.rollout.collector import Collector, collect_rollouts
from rlkit.rollout.foreign_calls import AbandonedCallsError
from rlkit.types import Prompt, PromptBatch, Rollouts, SamplingParams


@dataclass(frozen=True)
class FailedPrompt:
    """A prompt that was given up, and why, on one line."""

    prompt: Prompt
    error: str


@dataclass(frozen=True, eq=False)
class AnsweredBatch:
    """What came of a batch.

    rollouts        the answers to all prompts that have not failed, in order, groups counted from 0; None when all failed
    engine_answers  after every failure the engine was seen to answer another prompt
    """

    rollouts: Rollouts | None
    failed: tuple[FailedPrompt, ...] = ()
    engine_answers: bool = False


class AnswersBatches(Protocol):
    """Implemented by `BatchAfterBatch`, `rlkit.rollout.overlapping.OverlappingBatches` and `rlkit.cluster.replicated_engine.ReplicatedEngine.answer_batches`."""

    def __call__(
        self, batches: Iterable[PromptBatch], sampling: SamplingParams, *, keep_going: bool
    ) -> Iterator[AnsweredBatch]:
        """The batches in order; keep_going tells failing prompts apart and passes over them, else the first one raises."""
        ...


@dataclass(frozen=True)
class BatchAfterBatch:
    """`AnswersBatches` that begins a batch when the one before is done: in conversations, and by engines that take no requests while
    they answer.

    proven: a prompt that an engine like this has answered before, if there is one.
    """

    engine: RolloutEngine
    collector: Collector = collect_rollouts
    proven: PromptBatch | None = None

    def __call__(
        self, batches: Iterable[PromptBatch], sampling: SamplingParams, *, keep_going: bool
    ) -> Iterator[AnsweredBatch]:
        """Raises `RolloutError` when it is the engine that fails rather than the prompts."""
        apart = AnswersApart(self.engine, sampling, self.collector, self.proven)
        for batch in batches:
            if not keep_going:
                yield AnsweredBatch(self.collector(self.engine, batch, sampling))
                continue
            yield apart.answered(batch)


@dataclass
class AnswersApart:
    """Answers batches by halving whatever fails: a bad prompt costs a few calls, not a call for each prompt.

    A prompt that fails alone is given up only when the engine still answers `proven`, one that it has answered before:
    otherwise it is the engine that is broken, and all that comes would be given up for nothing.
    """

    engine: RolloutEngine
    sampling: SamplingParams
    collector: Collector = collect_rollouts
    proven: PromptBatch | None = None

    def answered(self, batch: PromptBatch) -> AnsweredBatch:
        """Raises `RolloutError` when the engine is broken."""
        parts, failed = self._answer(batch, lone=len(batch) == 1)
        rollouts = Rollouts.join(parts) if parts else None
        return AnsweredBatch(rollouts, tuple(failed), engine_answers=self.proven is not None)

    def _answer(self, batch: PromptBatch, *, lone: bool) -> tuple[list[Rollouts], list[FailedPrompt]]:
        try:
            parts = [self.collector(self.engine, batch, self.sampling)]
        except (ClusterError, AbandonedCallsError):
            raise
        except Exception as error:
            if len(batch) == 1:
                self._check_engine(batch.prompts[0], error, lone=lone)
                return [], [FailedPrompt(batch.prompts[0], reason_of(error))]
        else:
            self.proven = batch.select([0])
            return parts, []
        middle = len(batch) // 2
        parts, failed = self._answer(batch.select(range(middle)), lone=False)
        more, too = self._answer(batch.select(range(middle, len(batch))), lone=False)
        return parts + more, failed + too

    def _check_engine(self, prompt: Prompt, error: Exception, *, lone: bool) -> None:
        """Asks the engine for one token. Before its first answer only the rest of the batch can tell who is at fault."""
        if self.proven is None:
            if lone and not isinstance(error, RLKitError):
                raise RolloutError(
                    f"the first prompt, row {prompt.row_id}, cannot be answered: {reason_of(error)}"
                ) from error
            return
        try:
            collect_rollouts(self.engine, self.proven, replace(self.sampling, samples=1, max_tokens=1))
        except ClusterError:
            raise
        except Exception as now:
            raise RolloutError(
                f"the rollout engine is broken: it fails at row {self.proven.prompts[0].row_id} too, which it has answered "
                f"before: {reason_of(now)}"
            ) from error


def reason_of(error: BaseException) -> str:
    """On one line; errors that rlkit raises on purpose speak for themselves, others with their type."""
    return " ".join(str(error).split()) if isinstance(error, RLKitError) else describe_error(error)
