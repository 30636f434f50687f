"""Validation numbers against what can be counted by hand, and against what `rlkit eval` says of the same answers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from rlkit.evaluation.evaluate import evaluate_files
from rlkit.evaluation.statistics import IntervalSettings
from rlkit.testing.fakes import FakeEngine, FakeScorer, FakeTokenizer, fake_prompts
from rlkit.tracking.validation_scores import read_scores
from rlkit.trainers.validation import Validator, validation_metrics
from rlkit.types import PromptBatch, Reward, Sample, SamplingParams


@dataclass
class Verdicts:
    """Gives the rewards and the answers that it was made with, in order."""

    rewards: list[Reward]
    answers: list[str | None] | None = None
    given: int = field(default=0, init=False)

    def score(self, samples: Sequence[Sample]) -> list[Reward]:
        start, self.given = self.given, self.given + len(samples)
        return self.rewards[start : self.given]

    def extract_answers(self, samples: Sequence[Sample]) -> list[str | None] | None:
        return None if self.answers is None else self.answers[self.given - len(samples) : self.given]


def from_sources(prompts: PromptBatch, sources: Sequence[str]) -> PromptBatch:
    named = [replace(prompt, data_source=name) for prompt, name in zip(prompts.prompts, sources, strict=True)]
    return PromptBatch(tuple(named), prompts.token_ids)


def validate(
    scores: Sequence[Sequence[float | Reward]],
    *,
    sources: Sequence[str] = (),
    answers: list[str | None] | None = None,
    engine: FakeEngine | None = None,
) -> dict[str, float]:
    prompts = fake_prompts(len(scores))
    if sources:
        prompts = from_sources(prompts, sources)
    sampling = SamplingParams(max_tokens=2, samples=len(scores[0]))
    flat = [score if isinstance(score, Reward) else Reward(score) for group in scores for score in group]
    validator = Validator(prompts, sampling, FakeTokenizer(), Verdicts(flat, answers))
    return validator.run(engine or FakeEngine(), step=0)


def values(metrics: dict[str, float], kind: str) -> dict[str, float]:
    return {name: value for name, value in metrics.items() if kind in name and not name.endswith(("_low", "_high"))}


def test_a_prompts_score_is_the_mean_of_its_answers():
    metrics = validate([[1.0, 0.0], [0.0, 0.0], [1.0, 1.0]])
    assert metrics["validation/score"] == pytest.approx(0.5)
    assert metrics["validation/score_low"] < 0.5 < metrics["validation/score_high"]
    assert metrics["validation/prompts"] == 3


def test_answers_to_one_prompt_do_not_count_as_independent():
    agreeing = validate([[1.0] * 4, [0.0] * 4] * 10)
    single = validate([[1.0], [0.0]] * 10)
    for bound in ("validation/score_low", "validation/score_high"):
        assert agreeing[bound] == pytest.approx(single[bound])


def test_pass_at_k_is_unbiased_and_bounded():
    metrics = validate([[1.0, 0.0, 0.0, 0.0], [0.0, 0.0, 0.0, 0.0]])
    # one right of four: 1/4 for one draw, 1 - C(3,2)/C(4,2) = 1/2 for two, 1 for four; and a prompt never solved
    expected = {"validation/pass_at_1": 1 / 8, "validation/pass_at_2": 1 / 4, "validation/pass_at_4": 1 / 2}
    assert values(metrics, "pass_at") == pytest.approx(expected)
    assert metrics["validation/pass_at_4_low"] < 0.5 < metrics["validation/pass_at_4_high"]


@pytest.mark.parametrize("scores", [[[1.0], [0.0]], [[0.5, 0.25], [1.0, 0.0]]])
def test_pass_at_k_is_for_several_answers_that_are_right_or_wrong(scores):
    assert not values(validate(scores), "pass_at")


def test_the_majority_votes_where_the_reward_extracts_answers():
    scores, answers = [[1.0, 1.0, 0.0], [1.0, 0.0, 0.0]], ["7", "7", "8", "7", "8", "8"]
    metrics = validate(scores, answers=answers)
    assert values(metrics, "maj_at") == {"validation/maj_at_3": 0.5}
    assert metrics["validation/maj_at_3_low"] < 0.5 < metrics["validation/maj_at_3_high"]
    assert not values(validate(scores), "maj_at")


def test_errors_and_named_parts_are_counted():
    rewards = [Reward(1.0, {"style": 0.5}), Reward(0.0, {"style": 0.1}, error="too late")]
    metrics = validate([[reward] for reward in rewards])
    assert (metrics["validation/errors"], metrics["validation/part/style"]) == (1.0, pytest.approx(0.3))


def test_length_and_cut_off_answers_are_measured():
    class Cut(FakeEngine):
        def generate(self, prompts, sampling):
            made = super().generate(prompts, sampling)
            return replace(made, finish_reasons=("length", *made.finish_reasons[1:]))

    metrics = validate([[1.0], [0.0]], engine=Cut())
    assert (metrics["validation/length_mean"], metrics["validation/truncated_fraction"]) == (2.0, 0.5)


def test_each_data_source_has_all_of_it_when_there_are_several():
    metrics = validate([[1.0, 1.0], [0.0, 0.0], [1.0, 0.0]], sources=("a", "b", "b"), answers=["7"] * 6)
    assert (metrics["validation/a/score"], metrics["validation/b/score"]) == (1.0, 0.25)
    overall = {name.removeprefix("validation/") for name in metrics if name.count("/") == 1}
    for source in ("a", "b"):
        prefix = f"validation/{source}/"
        assert {name.removeprefix(prefix) for name in metrics if name.startswith(prefix)} == overall
    assert not [name for name in validate([[1.0], [0.0]]) if "default" in name]


def test_rlkit_eval_says_the_same_of_the_same_answers(tmp_path: Path):
    prompts = from_sources(fake_prompts(12), ["sums", "products"] * 6)
    validator = Validator(prompts, SamplingParams(max_tokens=2, samples=4), FakeTokenizer(), FakeScorer(), tmp_path)
    metrics = validator.run(FakeEngine(log_odds=0.5), step=7)
    files = [str(tmp_path / "step_000007.jsonl")]
    result = evaluate_files(files, FakeScorer(), functions=["word"], settings=IntervalSettings())
    assert validation_metrics(result.files[0].summaries) == metrics
    assert 0.0 < metrics["validation/sums/maj_at_4"] < 1.0


def test_the_file_of_a_repeated_validation_is_replaced(tmp_path: Path):
    validator = Validator(fake_prompts(3), SamplingParams(max_tokens=2), FakeTokenizer(), FakeScorer(), tmp_path)
    for _ in range(2):
        validator.run(FakeEngine(), step=2)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["step_000002.json", "step_000002.jsonl"]


def test_the_scores_of_single_prompts_are_kept_beside_the_answers(tmp_path: Path):
    validator = Validator(
        fake_prompts(3), SamplingParams(max_tokens=2, samples=2), FakeTokenizer(), FakeScorer(), tmp_path
    )
    metrics = validator.run(FakeEngine(), step=2)
    scores = read_scores(tmp_path, 2)
    assert scores is not None
    assert scores.row_ids == (0, 1, 2)
    assert [len(row) for row in scores.scores] == [2, 2, 2]
    assert sum(map(sum, scores.scores)) / 6 == metrics["validation/score"]
    assert len((tmp_path / "step_000002.jsonl").read_text().splitlines()) == 3
