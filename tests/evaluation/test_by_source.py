"""Each data source has its own judge."""

from __future__ import annotations

from collections.abc import Sequence

from rlkit.evaluation.by_source import ScorerBySource
from rlkit.types import Prompt, Reward, Sample


class Constant:
    def __init__(self, value: float, *, extracts: bool = True) -> None:
        self.value, self.extracts = value, extracts

    def score(self, samples: Sequence[Sample]) -> list[Reward]:
        return [Reward(self.value) for _ in samples]

    def extract_answers(self, samples: Sequence[Sample]) -> list[str | None] | None:
        return [f"{self.value}:{sample.response}" for sample in samples] if self.extracts else None


def samples(*sources: str) -> list[Sample]:
    return [Sample(Prompt(row, text="q", data_source=source), str(row)) for row, source in enumerate(sources)]


def test_every_answer_goes_to_its_sources_judge_and_comes_back_in_order() -> None:
    scorer = ScorerBySource(Constant(0.0), {"math": Constant(1.0), "code": Constant(2.0)})
    given = samples("math", "code", "other", "math")
    assert [reward.score for reward in scorer.score(given)] == [1.0, 2.0, 0.0, 1.0]
    assert scorer.extract_answers(given) == ["1.0:0", "2.0:1", "0.0:2", "1.0:3"]


def test_answers_are_extracted_where_the_judge_can() -> None:
    scorer = ScorerBySource(Constant(0.0, extracts=False), {"math": Constant(1.0)})
    assert scorer.extract_answers(samples("math", "other")) == ["1.0:0", None]
    assert scorer.extract_answers(samples("other")) is None
