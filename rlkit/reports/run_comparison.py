"""How runs differ: settings, validations (paired where the prompts are the same), metrics at equal steps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rlkit.errors import ConfigError
from rlkit.evaluation.paired import PairedTest, compare_paired, holm_adjusted
from rlkit.reports.run_data import MetricRow, RunData, best_validation, read_run, run_labels
from rlkit.reports.settings import Setting, read_settings
from rlkit.reports.validations import score_of
from rlkit.tracking.headline_metrics import HEADLINES
from rlkit.tracking.run_folder import RunFolder
from rlkit.tracking.validation_record import ValidationScore
from rlkit.tracking.validation_scores import PromptScores, read_scores

LEVEL = 0.05
"""Differences with a smaller (corrected) p-value are called significant."""
AROUND = 5
"""Training metrics at a step are means over so many steps up to it."""


@dataclass(frozen=True)
class PairedResult:
    """The validation of `second` minus that of `first`, over the prompts that both were asked.

    which              last or best: which validation of each run; steps: when those were
    left_out           prompts that only one of the two was asked
    adjusted_p_value   corrected for the number of comparisons in the table (Holm); significant is decided by it
    """

    which: str
    first: str
    second: str
    steps: tuple[int, int]
    test: PairedTest
    left_out: int
    adjusted_p_value: float

    @property
    def verdict(self) -> str:
        """In words."""
        if self.adjusted_p_value >= LEVEL:
            return "not significant"
        return "better" if self.test.difference > 0 else "worse"

    def as_json(self) -> dict[str, Any]:
        return {**asdict(self), "verdict": self.verdict}


@dataclass(frozen=True)
class RunComparison:
    """labels: the runs; validations: each run's start, best and last one; metrics: name -> each run's value at `step`."""

    labels: tuple[str, ...]
    settings: tuple[Setting, ...]
    validations: tuple[Mapping[str, ValidationScore | None], ...]
    paired: tuple[PairedResult, ...]
    unpaired: str
    step: int
    metrics: Mapping[str, tuple[float | None, ...]]

    def as_json(self) -> dict[str, Any]:
        """Plain JSON values."""
        validations = [
            {name: None if score is None else asdict(score) for name, score in run.items()} for run in self.validations
        ]
        return {
            "runs": self.labels,
            "settings": [{"key": one.key, "values": one.values} for one in self.settings],
            "validations": validations,
            "paired": [one.as_json() for one in self.paired],
            "unpaired": self.unpaired,
            "metrics": {"step": self.step, "values": self.metrics},
        }


def compare_runs(folders: Sequence[Path]) -> RunComparison:
    """All runs against the first. Raises `DataError` when a folder holds no run, `ConfigError` for fewer than two."""
    if len(folders) < 2:
        raise ConfigError("one run has nothing to be compared with; give two or more run folders")
    runs = [read_run(folder) for folder in folders]
    labels = run_labels(runs)
    validations = [_validations(run) for run in runs]
    paired, unpaired = _paired(runs, labels, validations)
    step = _common_step(runs)
    return RunComparison(
        labels=tuple(labels),
        settings=tuple(setting for setting in read_settings(runs) if setting.differs),
        validations=tuple(validations),
        paired=tuple(paired),
        unpaired=unpaired,
        step=step,
        metrics=_metrics_at(runs, step),
    )


def _validations(run: RunData) -> dict[str, ValidationScore | None]:
    scores = [score for row in run.validations if (score := score_of(row)) is not None]
    best = best_validation(run.validations)
    return {
        "start": scores[0] if scores and scores[0].step == 0 else None,
        "best": best or (scores[-1] if scores else None),
        "last": scores[-1] if scores else None,
    }


def _paired(
    runs: Sequence[RunData], labels: Sequence[str], validations: Sequence[Mapping[str, ValidationScore | None]]
) -> tuple[list[PairedResult], str]:
    """Results, and why there are none where that needs saying."""
    results: list[PairedResult] = []
    reasons: list[str] = []
    for which in ("last", "best"):
        first = _scores_of(runs[0], validations[0][which])
        for run, label, scores in list(zip(runs, labels, validations, strict=True))[1:]:
            second = _scores_of(run, scores[which])
            if first is None or second is None:
                reasons.append("the runs have not kept the scores of single validation prompts")
                continue
            pairs = first[1].matched(second[1])
            if not pairs:
                reasons.append(f"{labels[0]} and {label} were validated on different prompts")
                continue
            test = compare_paired([one for one, _ in pairs], [other for _, other in pairs])
            left_out = len(first[1]) + len(second[1]) - 2 * len(pairs)
            results.append(PairedResult(which, labels[0], label, (first[0], second[0]), test, left_out, test.p_value))
    same = {(one.second, one.steps) for one in results if one.which == "last"}
    results = [one for one in results if one.which == "last" or (one.second, one.steps) not in same]
    adjusted = holm_adjusted([one.test.p_value for one in results])
    corrected = [
        PairedResult(one.which, one.first, one.second, one.steps, one.test, one.left_out, p_value)
        for one, p_value in zip(results, adjusted, strict=True)
    ]
    return corrected, "" if corrected or not any(v["last"] for v in validations) else next(iter(reasons), "")


def _scores_of(run: RunData, score: ValidationScore | None) -> tuple[int, PromptScores] | None:
    if score is None:
        return None
    scores = read_scores(RunFolder(run.folder).validation, score.step)
    return None if scores is None else (score.step, scores)


def _common_step(runs: Sequence[RunData]) -> int:
    """The last step that every run has finished; 0 where there is none."""
    return min((run.steps[-1].step if run.steps else 0) for run in runs)


def _metrics_at(runs: Sequence[RunData], step: int) -> dict[str, tuple[float | None, ...]]:
    """The headline metrics of the runs' kinds at an equal step."""
    kinds = [str(run.run.get("kind", "")) for run in runs]
    names = dict.fromkeys(headline.metric for kind in kinds for headline in HEADLINES.get(kind, ()))
    values = {
        name: tuple(_mean_until(run.steps, name, step) for run in runs)
        for name in names
        if not name.startswith(("validation/", "sft/validation"))
    }
    return {name: found for name, found in values.items() if any(value is not None for value in found)}


def _mean_until(rows: Sequence[MetricRow], name: str, step: int) -> float | None:
    found = [row.values[name] for row in rows if row.step <= step and name in row.values][-AROUND:]
    return sum(found) / len(found) if found else None
