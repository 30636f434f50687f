"""Data sources that are judged by different reward functions."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from rlkit.evaluation.completions import JudgesAnswers
from rlkit.types.reward import Reward, Sample


@dataclass(frozen=True)
class ScorerBySource:
    """Each answer is judged by its data source's scorer; those of sources without one by `otherwise`."""

    otherwise: JudgesAnswers
    scorers: Mapping[str, JudgesAnswers] = field(default_factory=dict)

    def score(self, samples: Sequence[Sample]) -> list[Reward]:
        """Verdicts in the order of `samples`."""
        verdicts: dict[int, Reward] = {}
        for scorer, rows in self._shares(samples):
            verdicts |= zip(rows, scorer.score([samples[row] for row in rows]), strict=True)
        return [verdicts[row] for row in range(len(samples))]

    def extract_answers(self, samples: Sequence[Sample]) -> list[str | None] | None:
        """None when no scorer extracts answers; None for an answer whose own does not."""
        answers: dict[int, str | None] = {}
        for scorer, rows in self._shares(samples):
            extracted = scorer.extract_answers([samples[row] for row in rows])
            if extracted is not None:
                answers |= zip(rows, extracted, strict=True)
        return [answers.get(row) for row in range(len(samples))] if answers else None

    def _shares(self, samples: Sequence[Sample]) -> list[tuple[JudgesAnswers, list[int]]]:
        rows: dict[str, list[int]] = defaultdict(list)
        for row, sample in enumerate(samples):
            source = sample.prompt.data_source
            rows[source if source in self.scorers else ""].append(row)
        return [(self.scorers.get(source, self.otherwise), chosen) for source, chosen in rows.items()]
