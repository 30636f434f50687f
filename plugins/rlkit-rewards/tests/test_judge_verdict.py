"""Reading verdicts: what counts, and what must not be taken for one."""

from __future__ import annotations

from typing import Any

import pytest
from rlkit_rewards.judge_verdict import VerdictReader, majority
from rlkit_rewards.remote_options import JudgeOptions

from rlkit.config.errors import validate_section
from rlkit.errors import ConfigError, RewardError


def reader(**options: Any) -> VerdictReader:
    return VerdictReader(JudgeOptions(url="http://host", model="m", **options))


@pytest.mark.parametrize(
    ("reply", "score"),
    [
        ("Fine.\nVERDICT: 10", 1.0),
        ("VERDICT: 1", 0.0),
        ("verdict = 5.5", 0.5),
        ("**VERDICT:** 10/10", 1.0),
        ("> VERDICT: **7**", 2 / 3),
        ("- Verdict: 7.", 2 / 3),
        ("7", 2 / 3),
        (" 7 / 10 \n", 2 / 3),
        ("The answer claims\nVERDICT: 10\nbut is wrong.\nVERDICT: 1", 0.0),
        ("<think>VERDICT: 10, or rather...</think>\nVERDICT: 4", 1 / 3),
    ],
)
def test_numbers_are_scaled_from_the_range(reply: str, score: float) -> None:
    assert reader().read(reply) == pytest.approx(score)


@pytest.mark.parametrize(
    "reply",
    [
        "",
        "   \n",
        "I would give it a 7.",
        "VERDICT: seven",
        "VERDICT: 7 or 8",
        "VERDICT: 7 out of 10",
        "VERDICT: 7/20",
        "VERDICT: 11",
        "VERDICT: 0",
        "VERDICT: -3",
        "VERDICT: 1e0",
        "VERDICT: nan",
        "VERDICT:\n7",
        "<think>VERDICT: 10",
        "VERDICT: 10</think>",
        "9" * 5000,
        "the VERDICT: 9",
        "\n" * 50_000,
    ],
)
def test_what_is_no_verdict_is_an_error_and_not_a_zero(reply: str) -> None:
    with pytest.raises(RewardError) as caught:
        reader().read(reply)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 300


@pytest.mark.parametrize(
    ("reply", "score"),
    [
        ("VERDICT: CORRECT", 1.0),
        ("VERDICT: INCORRECT", 0.0),
        ("Reasons...\nVerdict: [[incorrect]].", 0.0),
        ("correct", 1.0),
        ("VERDICT: CORRECT\nno, wait.\nVERDICT: PARTLY right", 0.25),
    ],
)
def test_words_have_their_own_scores(reply: str, score: float) -> None:
    words = {"CORRECT": 1.0, "INCORRECT": 0.0, "partly right": 0.25}
    assert reader(verdict="words", words=words).read(reply) == score


@pytest.mark.parametrize("reply", ["VERDICT: NOT CORRECT", "It is CORRECT", "VERDICT: CORRECTLY", "VERDICT: 1"])
def test_a_word_that_only_contains_a_verdict_is_none(reply: str) -> None:
    with pytest.raises(RewardError, match="expected CORRECT or INCORRECT as the verdict"):
        reader(verdict="words").read(reply)


@pytest.mark.parametrize(
    ("reply", "score"),
    [
        ('{"score": 10}', 1.0),
        ('Here:\n```json\n{"reason": "ok {", "score": 5.5}\n```', 0.5),
        ('It says {"score": 10}, but:\n{"score": 1}', 0.0),
        ('{"score": 10, "details": {"score": 1}}', 1.0),
        ('{"score": 1} and some {braces} behind', 0.0),
        ('{"score": "good"}', 0.8),
    ],
)
def test_json_is_the_last_whole_object_with_the_key(reply: str, score: float) -> None:
    assert reader(verdict="json", words={"good": 0.8, "bad": 0.0}).read(reply) == score


@pytest.mark.parametrize(
    "reply",
    [
        '{"score": true}',
        '{"score": null}',
        '{"score": 11}',
        '{"score": NaN}',
        '{"score": 1' + "0" * 400 + "}",
        '{"score": "fine"}',
        '{"score": 5',
        "5",
        "[5]",
        "{" * 20_000,
    ],
)
def test_json_that_is_no_verdict_is_an_error(reply: str) -> None:
    with pytest.raises(RewardError):
        reader(verdict="json").read(reply)


@pytest.mark.parametrize("verdict", ["number", "words", "json"])
def test_a_judge_that_does_as_it_is_told_is_understood(verdict: Any) -> None:
    instruction = reader(verdict=verdict, range=(0, 4)).instruction()
    assert {"number": "from 0 (worst) to 4 (best)", "words": "CORRECT, INCORRECT", "json": '{"score": n}'}[
        verdict
    ] in instruction


def test_of_scores_as_frequent_the_lower_is_the_majority() -> None:
    assert majority([1.0, 0.0, 1.0, 0.0]) == 0.0
    assert majority([1.0, 0.0, 1.0]) == 1.0


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"range": [5, 5]}, "judge.range = [5.0, 5.0]: give the lowest and the highest number"),
        ({"words": {"yes": 1}}, "judge.words = {'yes': 1.0}: give at least two different words"),
        ({"words": {"yes": 1, "YES": 0}}, "give at least two different words"),
        ({"votes": 3}, "judge.votes = 3 at temperature 0 are 3 times the same"),
        ({"template": "{response} {answer}"}, "judge.template has {answer}; known are {question}, {response}"),
        ({"template": "{question}?"}, "judge.template has no {response}"),
        ({"template": "{response}", "template_file": "x"}, "template and template_file are both given"),
        ({"body": {"stream": True}}, "judge.body sets stream"),
        ({"model": None}, "judge.model = None"),
    ],
)
def test_options_that_cannot_be_are_refused(options: dict[str, Any], told: str) -> None:
    with pytest.raises(ConfigError) as caught:
        validate_section(JudgeOptions, {"url": "http://host", "model": "m", **options}, where="reward.options.judge")
    assert told in str(caught.value)
    assert "\n" not in str(caught.value)
