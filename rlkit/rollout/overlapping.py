"""Batches of prompts, answered by an engine of this process that can be asked while it answers."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any

from rlkit.errors import ClusterError, ModelError, RLKitError
from rlkit.rollout.answered import AnsweredBatch, AnswersApart, FailedPrompt, reason_of
from rlkit.rollout.answers import lay_out, sample_numbers
from rlkit.types import CompletionChunk, CompletionRequest, FinishReason, PromptBatch, SamplingParams

BATCHES_AHEAD = 3
"""As many batches, at most, are in progress behind the one that comes out next: what a kill can cost."""


@dataclass(frozen=True)
class OverlappingBatches:
    """`AnswersBatches` that begins a batch while the last answers of the ones before are still growing.

    Batch after batch, an engine would work on the longest answers of each alone. The tokens are those of `generate` all the
    same, up to the rounding that depends on what is computed together.

    engine  with the methods of `RolloutEngine` and of `ServingEngine`
    proven  a prompt that an engine like this has answered before, if there is one
    """

    engine: Any
    proven: PromptBatch | None = None

    def __call__(
        self, batches: Iterable[PromptBatch], sampling: SamplingParams, *, keep_going: bool
    ) -> Iterator[AnsweredBatch]:
        """When a step fails, the batches in progress that are not whole are answered anew, each for itself.

        Raises `RolloutError` when it is the engine that fails rather than the prompts.
        """
        apart = AnswersApart(self.engine, sampling, proven=self.proven)
        underway = _Underway(self.engine, sampling, apart, keep_going=keep_going)
        unread: list[Exception] = []
        coming = _until_a_fault(batches, unread)
        try:
            while True:
                left: Sequence[_Batch] = ()
                try:
                    done = underway.next_done(coming)
                except ClusterError:
                    raise
                except Exception:
                    if not keep_going:
                        raise
                    left = underway.abandon()
                else:
                    if done is None and unread:
                        raise unread[0]
                    if done is None:
                        return
                    yield done
                for batch in left:
                    yield underway.assembled_if_whole(batch) or apart.answered(batch.prompts)
        finally:
            underway.abandon()


def _until_a_fault(batches: Iterable[PromptBatch], faults: list[Exception]) -> Iterator[PromptBatch]:
    """Batches up to the one that cannot be had: why goes to `faults`, since it is no fault of the engine's."""
    try:
        yield from batches
    except Exception as error:
        faults.append(error)


@dataclass
class _Answer:
    token_ids: list[int] = field(default_factory=list)
    log_probs: list[float] = field(default_factory=list)
    finish_reason: FinishReason | None = None

    def take(self, chunk: CompletionChunk) -> None:
        self.token_ids += chunk.token_ids
        self.log_probs += chunk.log_probs
        self.finish_reason = chunk.finish_reason
        if chunk.finish_reason is not None and not self.token_ids:
            raise ValueError(f"the rollout engine returned an answer without tokens ({chunk.request_id})")


@dataclass
class _Batch:
    """answers: by the position of the prompt, one for each sample; refused: positions with the reason.

    fault: of the prompt that ends the run, when this batch's turn has come.
    """

    prompts: PromptBatch
    answers: dict[int, list[_Answer]] = field(default_factory=dict)
    refused: dict[int, str] = field(default_factory=dict)
    fault: Exception | None = None
    unfinished: int = 0

    @property
    def is_whole(self) -> bool:
        """Whether every prompt has been asked, and has its answers or was refused."""
        return not self.unfinished and len(self.answers) + len(self.refused) == len(self.prompts)


class _Underway:
    """What an engine has been asked for, in the order of the batches."""

    def __init__(self, engine: Any, sampling: SamplingParams, apart: AnswersApart, *, keep_going: bool) -> None:
        self._engine = engine
        self._sampling = sampling
        self._one = replace(sampling, samples=1)
        self._apart = apart
        self._keep_going = keep_going
        self._batches: deque[_Batch] = deque()
        self._live: dict[str, tuple[_Batch, _Answer]] = {}
        self._asked = 0
        self._policy_version = 0

    def next_done(self, coming: Iterator[PromptBatch]) -> AnsweredBatch | None:
        """The next batch, when all of it is answered; None after the last one."""
        while True:
            first = self._batches[0] if self._batches else None
            if first is not None and first.fault is not None:
                raise first.fault
            if first is not None and not first.unfinished:
                done = self.assembled(first)
                self._batches.popleft()
                return done
            while self._has_room() and (prompts := next(coming, None)) is not None:
                self._ask(prompts)
            if not self._batches:
                return None
            if self._batches[0].unfinished:
                self._step()

    def abandon(self) -> Sequence[_Batch]:
        """Stop all of it; the batches that were in progress."""
        if self._live:
            with suppress(Exception):  # of an engine that is broken the error that came before says more
                self._engine.abort(list(self._live))
        left = tuple(self._batches)
        self._live.clear()
        self._batches.clear()
        return left

    def assembled_if_whole(self, batch: _Batch) -> AnsweredBatch | None:
        """None for a batch that lacks answers, or has some that are none."""
        with suppress(ModelError, ValueError):
            return self.assembled(batch) if batch.is_whole else None
        return None

    def assembled(self, batch: _Batch) -> AnsweredBatch:
        """A batch without anything unfinished."""
        prompts = batch.prompts
        refused = tuple(FailedPrompt(prompts.prompts[position], reason) for position, reason in batch.refused.items())
        if not batch.answers:
            return AnsweredBatch(None, refused, engine_answers=self._apart.proven is not None)
        positions = list(batch.answers)
        answers = [answer for position in positions for answer in batch.answers[position]]
        rollouts = lay_out(
            prompts.select(positions),
            self._sampling.samples,
            [answer.token_ids for answer in answers],
            [answer.log_probs for answer in answers] if any(answer.log_probs for answer in answers) else None,
            [answer.finish_reason or "abort" for answer in answers],
            policy_version=self._policy_version,
        )
        self._apart.proven = prompts.select(positions[:1])
        return AnsweredBatch(rollouts, refused, engine_answers=True)

    def _has_room(self) -> bool:
        """Whether fewer answers are left to be done than the latest batch has, so that the engine might soon have too few."""
        if not self._batches:
            return True
        latest = self._batches[-1]
        return (
            latest.fault is None
            and len(self._batches) <= BATCHES_AHEAD
            and len(self._live) < len(latest.prompts) * self._sampling.samples
        )

    def _ask(self, prompts: PromptBatch) -> None:
        batch = _Batch(prompts)
        self._batches.append(batch)
        for position, numbers in enumerate(sample_numbers(prompts, self._sampling.samples)):
            try:
                batch.answers[position] = [self._submit(batch, position, sample) for sample in numbers]
            except ClusterError:
                raise
            except RLKitError as error:  # this prompt cannot be answered; the others go on
                if not self._keep_going:
                    batch.fault = error
                    return
                batch.refused[position] = reason_of(error)

    def _submit(self, batch: _Batch, position: int, sample: int) -> _Answer:
        prompt, answer = batch.prompts.prompts[position], _Answer()
        self._asked += 1
        request = CompletionRequest(
            f"row {prompt.row_id}, number {self._asked}",  # as errors call it
            batch.prompts.token_ids[position],
            self._one,
            row_id=prompt.row_id,
            sample=sample,
            images=prompt.images,
        )
        self._engine.submit(request)
        self._live[request.request_id] = batch, answer
        batch.unfinished += 1
        return answer

    def _step(self) -> None:
        for chunk in self._engine.step():
            batch, answer = self._live[chunk.request_id]
            answer.take(chunk)
            self._policy_version = chunk.policy_version
            if chunk.finish_reason is not None:
                batch.unfinished -= 1
                del self._live[chunk.request_id]
        if self._live and not self._engine.has_work:
            raise ValueError(f"the rollout engine has lost {len(self._live)} of the requests that it was answering")
