"""How good the policy is on prompts that it is not trained on.

The way is that of `rlkit generate` and `rlkit eval`: answers become rows of a completions file, and the same functions
judge and summarise those. A validation and `rlkit eval` on its file can therefore not disagree.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from rlkit.evaluation.completions import JudgesAnswers, score_completions
from rlkit.evaluation.statistics import Interval, IntervalSettings
from rlkit.evaluation.summary import SourceSummary, summarise
from rlkit.generation.answers import completion_rows
from rlkit.generation.completions_file import write_rows
from rlkit.protocols import RolloutEngine, Tokenizer
from rlkit.rewards.scoring import decode_responses
from rlkit.rollout.collector import Collector, collect_rollouts
from rlkit.tracking.validation_scores import write_scores
from rlkit.types import PromptBatch, SamplingParams


@dataclass(frozen=True)
class Validator:
    """Answers every validation prompt and judges the answers.

    With a `folder`, writes the answers to `step_<step>.jsonl` in it, and their scores to `step_<step>.json`.
    """

    prompts: PromptBatch
    sampling: SamplingParams
    tokenizer: Tokenizer
    scorer: JudgesAnswers
    folder: Path | None = None
    collector: Collector = collect_rollouts

    def run(self, engine: RolloutEngine, step: int) -> dict[str, float]:
        """The metrics of `validation_metrics`, of the engine's present weights after `step` steps."""
        rollouts = self.collector(engine, self.prompts, self.sampling)
        texts = decode_responses(rollouts, self.tokenizer)
        rows = completion_rows(rollouts, texts, samples=self.sampling.samples, model=f"step {step}")
        if self.folder is not None:
            write_rows(self.folder / f"step_{step:06d}.jsonl", rows)
        scored = score_completions("validation", rows, self.scorer)
        if self.folder is not None:
            write_scores(self.folder, step, [row.prompt for row in scored.rows], [row.scores for row in scored.rows])
        return validation_metrics(summarise(scored.rows, IntervalSettings()))


def validation_metrics(summaries: Sequence[SourceSummary]) -> dict[str, float]:
    """`validation/...` of everything (the first summary) and `validation/<source>/...` of each data source.

    score        mean over prompts of each prompt's mean score (mean@k)
    pass_at_<k>  unbiased (Chen et al. 2021, arXiv:2107.03374, eq. 1); several answers that are right or wrong
    maj_at_<k>   majority voting; several answers, and a reward that extracts what is voted on
    prompts, length_mean (tokens), truncated_fraction, errors (answers without a verdict), part/<name> (means)

    The first three come with the 95 % interval over prompts: `<name>_low`, `<name>_high`.
    """
    overall, *sources = summaries
    metrics = {f"validation/{name}": value for name, value in _entries(overall)}
    for summary in sources:
        metrics |= {f"validation/{summary.data_source}/{name}": value for name, value in _entries(summary)}
    return metrics


def _entries(summary: SourceSummary) -> Iterator[tuple[str, float]]:
    yield from _bounded("score", summary.score)
    for k, interval in summary.pass_at.items():
        yield from _bounded(f"pass_at_{k}", interval)
    if summary.majority is not None:
        yield from _bounded(f"maj_at_{summary.samples[1]}", summary.majority)
    yield "prompts", float(summary.prompts)
    yield "length_mean", summary.length
    yield "truncated_fraction", summary.truncated
    yield "errors", float(summary.errors)
    for name, mean in summary.parts.items():
        yield f"part/{name}", mean


def _bounded(name: str, interval: Interval) -> Iterator[tuple[str, float]]:
    yield name, interval.mean
    yield f"{name}_low", interval.low
    yield f"{name}_high", interval.high
