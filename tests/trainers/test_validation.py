"""Validation numbers against what can be counted by hand."""

from __future__ import annotations

from dataclasses import dataclass, replace

import pytest

from rlkit.testing.fakes import FakeEngine, FakeTokenizer, fake_prompts
from rlkit.trainers.validation import Validator
from rlkit.types import PromptBatch, Reward, SamplingParams


@dataclass
class Verdicts:
    """Gives the scores that it was made with, in order."""

    scores: list[float]

    def score(self, samples):
        assert len(samples) == len(self.scores)
        return [Reward(score) for score in self.scores]


def validate(scores: list[list[float]], *, sources: tuple[str, ...] = ()) -> dict[str, float]:
    prompts = fake_prompts(len(scores))
    if sources:
        named = [replace(prompt, data_source=name) for prompt, name in zip(prompts.prompts, sources, strict=True)]
        prompts = PromptBatch(tuple(named), prompts.token_ids)
    sampling = SamplingParams(max_tokens=2, samples=len(scores[0]))
    flat = [score for group in scores for score in group]
    return Validator(prompts, sampling, FakeTokenizer(), Verdicts(flat)).run(FakeEngine())


def test_a_prompts_score_is_the_mean_of_its_answers():
    metrics = validate([[1.0, 0.0], [0.0, 0.0], [1.0, 1.0]])
    assert metrics["validation/score"] == pytest.approx(0.5)
    assert metrics["validation/score_low"] < 0.5 < metrics["validation/score_high"]
    assert metrics["validation/prompts"] == 3


def test_pass_at_k_is_unbiased():
    metrics = validate([[1.0, 0.0, 0.0, 0.0], [0.0, 0.0, 0.0, 0.0]])
    # one right of four: 1/4 for one draw, 1 - C(3,2)/C(4,2) = 1/2 for two, 1 for four; and a prompt never solved
    expected = {"validation/pass_at_1": 1 / 8, "validation/pass_at_2": 1 / 4, "validation/pass_at_4": 1 / 2}
    assert {name: value for name, value in metrics.items() if "pass_at" in name} == pytest.approx(expected)


@pytest.mark.parametrize("scores", [[[1.0], [0.0]], [[0.5, 0.25], [1.0, 0.0]]])
def test_pass_at_k_is_for_several_answers_that_are_right_or_wrong(scores):
    assert not [name for name in validate(scores) if "pass_at" in name]


def test_each_data_source_has_its_score_when_there_are_several():
    metrics = validate([[1.0], [0.0], [1.0]], sources=("a", "b", "b"))
    assert (metrics["validation/a/score"], metrics["validation/b/score"]) == (1.0, 0.5)
    assert "validation/default/score" not in validate([[1.0], [0.0]])
