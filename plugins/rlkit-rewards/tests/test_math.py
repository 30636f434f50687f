"""Answers of mathematics problems, judged by hand."""

from __future__ import annotations

import sys
from typing import Any, Literal

import pytest
from rlkit_rewards.math import Math
from rlkit_rewards.options import MathOptions

from rlkit.errors import MissingRequirementError
from rlkit.types import Prompt, Sample

REWARD = Math(MathOptions())
VERIFIERS: tuple[Literal["builtin", "auto"], ...] = ("builtin", "auto")


def judge(reward: Math, response: str, reference: Any) -> float:
    return reward([Sample(Prompt(0, text="q", reference=reference), response)])[0].score


def test_boxed_only_takes_nothing_else() -> None:
    reward = Math(MathOptions(boxed_only=True))
    assert judge(reward, "The answer is 42", "42") == 0
    assert judge(reward, r"\boxed{42}", "42") == 1


def test_a_missing_reference_is_an_error_not_a_wrong_answer() -> None:
    with pytest.raises(ValueError, match="no reference"):
        judge(REWARD, "4", None)


def test_equal_answers_are_extracted_in_one_spelling() -> None:
    assert {REWARD.extract_answer(text) for text in (r"\boxed{\frac12}", "The answer is 0.5.", "#### 1/2")} == {"1/2"}
    assert REWARD.extract_answer("no idea") is None


def test_math_verify_is_asked_for_by_name_when_it_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "math_verify", None)
    with pytest.raises(MissingRequirementError, match="pip install math-verify"):
        Math(MathOptions(verifier="math_verify"))
    assert judge(Math(MathOptions()), r"\boxed{7}", "7") == 1  # auto does without


def test_case_decides_between_symbols_but_not_between_words() -> None:
    for verifier in VERIFIERS:
        reward = Math(MathOptions(verifier=verifier))
        assert judge(reward, r"\boxed{F}", "f") == 0
        assert judge(reward, r"\boxed{EAST}", "east") == 1


def test_a_number_in_a_formula_is_not_taken_for_the_answer() -> None:
    assert REWARD.extract_answer("The answer is 18 eggs.") == "18"
    assert REWARD.extract_answer("The answer is x + 1.") == "x+1"
