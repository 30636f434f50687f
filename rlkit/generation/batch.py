"""Prompts to a completions file, batch by batch, without losing or doubling a row."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from rlkit.errors import ConfigError, RolloutError
from rlkit.generation.answers import completion_rows
from rlkit.generation.completions_file import CompletionRow, append_rows, read_rows, repair_tail, write_rows
from rlkit.generation.rates import AnswerRates
from rlkit.plugin.hooks import HookRelay
from rlkit.plugin.hookspecs import RunInfo
from rlkit.protocols import Tokenizer
from rlkit.rewards.scoring import decode_responses
from rlkit.rollout.answered import AnsweredBatch, AnswersBatches
from rlkit.trainers.clock import StageClock
from rlkit.trainers.conversation_metrics import conversation_metrics
from rlkit.trainers.stop_signal import StopSignal
from rlkit.types import PromptBatch, SamplingParams


@dataclass(frozen=True)
class AnsweredRows:
    """row_ids that a completions file holds: with answers, and with an error."""

    answered: frozenset[int] = frozenset()
    failed: frozenset[int] = frozenset()


@dataclass
class Progress:
    """What a run has got done so far."""

    answered: int = 0
    failed: int = 0


@dataclass(frozen=True)
class BatchGeneration:
    """How a file of prompts is answered.

    model           names the model in each row
    log_probs       write each token's id and log-prob
    keep_going      a prompt that cannot be answered is a row with an error; otherwise it ends the run
    engine_metrics  what the engine says of itself, to be reported with every batch
    """

    answers: AnswersBatches
    tokenizer: Tokenizer
    sampling: SamplingParams
    output: Path
    model: str
    log_probs: bool
    keep_going: bool = False
    engine_metrics: Callable[[], Mapping[str, float]] = dict

    def run(self, batches: Sequence[PromptBatch], *, run: RunInfo, hooks: HookRelay, stop: StopSignal) -> Progress:
        """Answer each batch and append its rows durably, until done or asked to stop: then what is begun is finished.

        Raises `RolloutError` when nothing at all can be answered: then it is not the prompts that are wrong.
        """
        progress, rates = Progress(), AnswerRates()
        answered = iter(self.answers(_until(batches, stop), self.sampling, keep_going=self.keep_going))
        for number, batch in enumerate(batches, start=1):
            clock = StageClock()
            with clock.stage("rollout"):
                done = next(answered, None)
            if done is None:
                break
            self._check_any_success(done, progress)
            append_rows(self.output, self._rows(batch, done))
            progress.answered += len(batch) - len(done.failed)
            progress.failed += len(done.failed)
            hooks.step_finished(run=run, step=number, metrics=self._metrics(batch, done, clock, rates))
        return progress

    def _check_any_success(self, done: AnsweredBatch, progress: Progress) -> None:
        if done.rollouts is None and len(done.failed) > 1 and not progress.answered and not done.engine_answers:
            first = done.failed[0]
            raise RolloutError(
                f"none of the {len(done.failed)} prompts of a batch could be answered; row {first.prompt.row_id}: {first.error}"
            )

    def _rows(self, batch: PromptBatch, done: AnsweredBatch) -> list[CompletionRow]:
        """In the order of the batch."""
        rows = [CompletionRow(failed.prompt, (), self.model, failed.error) for failed in done.failed]
        if done.rollouts is not None:
            rows += completion_rows(
                done.rollouts,
                decode_responses(done.rollouts, self.tokenizer),
                samples=self.sampling.samples,
                model=self.model,
                log_probs=self.log_probs,
            )
        place = {prompt.row_id: position for position, prompt in enumerate(batch.prompts)}
        return sorted(rows, key=lambda row: place[row.prompt.row_id])

    def _metrics(
        self, batch: PromptBatch, done: AnsweredBatch, clock: StageClock, rates: AnswerRates
    ) -> dict[str, float]:
        metrics = {
            "generate/prompts": float(len(batch)),
            "generate/failed": float(len(done.failed)),
            **self.engine_metrics(),
            **clock.metrics(),
        }
        if done.rollouts is None:
            rates.batch_done(answers=0, tokens=0)
            return metrics
        lengths = done.rollouts.response_ids.lengths
        rates.batch_done(answers=len(done.rollouts), tokens=int(lengths.sum()))
        return {
            **metrics,
            "response/length_mean": float(lengths.double().mean()),
            "rollout/tokens_per_s": rates.tokens_per_s,
            "generate/answers_per_s": rates.answers_per_s,
            **conversation_metrics(done.rollouts),
        }


def _until(batches: Sequence[PromptBatch], stop: StopSignal) -> Iterator[PromptBatch]:
    """The batches, no more of them once a stop is requested: those that are begun are still finished."""
    for batch in batches:
        if stop.requested:
            return
        yield batch


def answered_rows(output: Path, prompts: PromptBatch) -> AnsweredRows:
    """What the file already holds, after mending a line that a killed run left unfinished.

    Raises `ConfigError` when the file holds another prompt under one of the row_ids.
    """
    if not output.exists():
        return AnsweredRows()
    repair_tail(output)
    asked = {prompt.row_id: prompt.question for prompt in prompts.prompts}
    answered: set[int] = set()
    failed: set[int] = set()
    for row in read_rows(output):
        row_id, question = row.prompt.row_id, row.prompt.question
        if asked.get(row_id, question) != question:
            raise ConfigError(
                f"{output} answers another prompt in row {row_id}: the prompts have changed since it was begun; "
                "choose another --output, or remove the file to make all answers anew"
            )
        (failed if row.error else answered).add(row_id)
    return AnsweredRows(frozenset(answered), frozenset(failed))


def proven_prompt(prompts: PromptBatch, before: AnsweredRows) -> PromptBatch | None:
    """One of the prompts that the file holds answers to."""
    rows = [row for row, prompt in enumerate(prompts.prompts) if prompt.row_id in before.answered]
    return prompts.select(rows[:1]) if rows else None


def drop_failed_rows(output: Path) -> None:
    """Take the rows with an error out of the file, so that they are asked again; killed at any moment, it is whole."""
    write_rows(output, (row for row in read_rows(output) if not row.error))


def remaining_batches(prompts: PromptBatch, done: frozenset[int], size: int) -> list[PromptBatch]:
    """The prompts still to be answered, in order, `size` at a time."""
    rows = [index for index, prompt in enumerate(prompts.prompts) if prompt.row_id not in done]
    return [prompts.select(rows[start : start + size]) for start in range(0, len(rows), size)]
