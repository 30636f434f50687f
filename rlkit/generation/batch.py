"""Prompts to a completions file, batch by batch, without losing or doubling a row."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rlkit.errors import ConfigError
from rlkit.generation.answers import completion_rows
from rlkit.generation.completions_file import append_rows, read_rows, repair_tail
from rlkit.plugin.hooks import HookRelay
from rlkit.plugin.hookspecs import RunInfo
from rlkit.protocols import RolloutEngine, Tokenizer
from rlkit.rewards.scoring import decode_responses
from rlkit.rollout.collector import collect_rollouts
from rlkit.trainers.clock import StageClock
from rlkit.trainers.stop_signal import StopSignal
from rlkit.types import PromptBatch, SamplingParams


@dataclass(frozen=True)
class BatchGeneration:
    """How a file of prompts is answered.

    model names the model in each row; log_probs writes each token's id and log-prob.
    """

    engine: RolloutEngine
    tokenizer: Tokenizer
    sampling: SamplingParams
    output: Path
    model: str
    log_probs: bool

    def run(self, batches: Sequence[PromptBatch], *, run: RunInfo, hooks: HookRelay, stop: StopSignal) -> None:
        """Answer each batch and append its rows durably, until done or asked to stop."""
        for number, batch in enumerate(batches, start=1):
            if stop.requested:
                return
            clock = StageClock()
            with clock.stage("rollout"):
                rollouts = collect_rollouts(self.engine, batch, self.sampling)
            rows = completion_rows(
                rollouts,
                decode_responses(rollouts, self.tokenizer),
                samples=self.sampling.samples,
                model=self.model,
                log_probs=self.log_probs,
            )
            append_rows(self.output, rows)
            lengths = rollouts.response_ids.lengths.double()
            metrics = {
                "response/length_mean": float(lengths.mean()),
                "rollout/tokens_per_s": float(lengths.sum()) / max(clock.seconds("rollout"), 1e-9),
                "generate/prompts": float(len(batch)),
                "generate/answers_per_s": len(rollouts) / max(clock.seconds("rollout"), 1e-9),
            }
            hooks.step_finished(run=run, step=number, metrics={**metrics, **clock.metrics()})


def answered_rows(output: Path, prompts: PromptBatch) -> set[int]:
    """row_ids that the file already answers, after mending a line that a killed run left unfinished.

    Raises `ConfigError` when the file holds another prompt under one of the row_ids.
    """
    if not output.exists():
        return set()
    repair_tail(output)
    asked = {prompt.row_id: prompt.question for prompt in prompts.prompts}
    answered = set()
    for row in read_rows(output):
        row_id, question = row.prompt.row_id, row.prompt.question
        if asked.get(row_id, question) != question:
            raise ConfigError(
                f"{output} answers another prompt in row {row_id}: the prompts have changed since it was begun; "
                "choose another --output, or remove the file to make all answers anew"
            )
        answered.add(row_id)
    return answered


def remaining_batches(prompts: PromptBatch, answered: set[int], size: int) -> list[PromptBatch]:
    """The prompts still to be answered, in order, `size` at a time."""
    rows = [index for index, prompt in enumerate(prompts.prompts) if prompt.row_id not in answered]
    return [prompts.select(rows[start : start + size]) for start in range(0, len(rows), size)]
