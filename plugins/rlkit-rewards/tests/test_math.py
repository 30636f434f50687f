"""Answers of mathematics problems, judged by hand."""

from __future__ import annotations

import sys
from types import ModuleType
from typing import Any

import pytest
from rlkit_rewards.math import Math
from rlkit_rewards.options import MathOptions

from rlkit.errors import MissingRequirementError
from rlkit.types import Prompt, Sample

REWARD = Math(MathOptions())

# response, reference, right
TABLE: list[tuple[str, Any, bool]] = [
    (r"So the answer is $\boxed{\frac{1}{2}}$.", r"\frac{1}{2}", True),
    (r"\boxed{\dfrac12}", r"\frac{1}{2}", True),
    (r"\boxed{1/2}", r"\frac{1}{2}", True),
    (r"\boxed{0.5}", r"\frac{1}{2}", True),
    (r"\boxed{.5}", "0.5", True),
    (r"\boxed{\frac{2}{4}}", r"\frac12", True),
    (r"\boxed{-\frac{1}{2}}", r"\frac{-1}{2}", True),
    (r"\boxed{\frac{1}{2}}", r"-\frac{1}{2}", False),
    (r"\boxed{1\frac{1}{2}}", r"\frac{3}{2}", True),
    (r"\boxed{\frac1{72}}", r"\frac{1}{72}", True),
    (r"\boxed{\tfrac{3}{56}}", r"\dfrac{3}{56}", True),
    (r"\fbox{7}", "7", True),
    (r"\boxed{7} or \boxed{8}", "8", True),
    (r"\boxed{7} or \boxed{8}", "7", False),
    (r"\boxed{\text{Even}}", "even", True),
    (r"\boxed{\textbf{(C)}}", "C", True),
    (r"\boxed{C}", r"\text{(C)}", True),
    (r"\boxed{B}", "C", False),
    (r"\boxed{1,000}", "1000", True),
    (r"\boxed{1{,}000{,}000}", "1000000", True),
    (r"\boxed{10\%}", "10", True),
    (r"\boxed{\$5.50}", "5.5", True),
    (r"\boxed{45^\circ}", "45", True),
    (r"\boxed{45^{\circ}}", r"45^\circ", True),
    (r"\boxed{12\text{ cm}^2}", "12", True),
    (r"\boxed{12\ \mathrm{cm}}", "12", True),
    (r"\boxed{x = 5}", "5", True),
    (r"\boxed{x=5}", "x=5", True),
    (r"\boxed{x \in [1,2)}", "[1,2)", True),
    (r"\boxed{[1,2]}", "[1,2)", False),
    (r"\boxed{\left(3, \frac{\pi}{2}\right)}", r"(3,\frac{\pi}{2})", True),
    (r"\boxed{(1, 2)}", "(2,1)", False),
    (r"\boxed{(0.5, 2)}", r"(\frac12, 2.0)", True),
    (r"\boxed{\{1, 2\}}", r"\{2,1\}", True),
    (r"\boxed{1, 2}", "2, 1", True),
    (r"\boxed{2\sqrt3}", r"2\sqrt{3}", True),
    (r"\boxed{\sqrt{12}}", r"2\sqrt{3}", False),  # needs math_verify
    (r"\boxed{x \leq 3}", r"x\le 3", True),
    (r"\boxed{x < 3}", r"x\le 3", False),
    (r"\boxed{\Delta}", r"\delta", False),
    (r"\boxed{3 \cdot 2^5}", r"3\times2^5", True),
    (r"\boxed{\infty}", "\u221e", True),
    (r"\boxed{\u22123}".replace("\\u2212", "\u2212"), "-3", True),
    (r"\boxed{}", "3", False),
    (r"\boxed{} so 3", "3", True),
    (r"\boxed{3", "3", True),
    (r"nested \boxed{\frac{\sqrt{3}}{2}} end}", r"\frac{\sqrt{3}}{2}", True),
    ("The answer is 42.", "42", True),
    ("**Answer:** 42", "42", True),
    (r"The answer is $\frac{3}{4}$ of it.", "3/4", True),
    (r"Hence $x = 3$ and we are done.", "3", True),
    (r"Hence \(y=2\) and \[z = 7\]", "7", True),
    ("We get 3 and then 42", "42", True),
    ("#### 42", "42", True),
    ("no idea", "42", False),
    ("", "42", False),
    (r"\boxed{42}" + " " * 100_000, "42", True),
    ("{" * 100_000, "42", False),
    (r"\boxed{" + "1" * 100_000 + "}", "1", False),
    (r"\boxed{4.0}", 4, True),
    (r"\boxed{4}", r"Adding, we get $\boxed{4}$.", True),
    (r"\boxed{0.333}", r"\frac13", False),
    (r"\boxed{100\text{ dollars}}", r"\$100", True),
]


def judge(reward: Math, response: str, reference: Any) -> float:
    return reward([Sample(Prompt(0, text="q", reference=reference), response)])[0].score


@pytest.mark.parametrize(("response", "reference", "right"), TABLE, ids=range(len(TABLE)))
def test_answers_are_judged_as_by_hand(response: str, reference: Any, right: bool) -> None:
    assert judge(REWARD, response, reference) == float(right)


def test_the_table_is_long_enough_to_mean_something() -> None:
    assert len(TABLE) >= 60


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


def test_math_verify_decides_where_the_builtin_comparison_says_no(monkeypatch: pytest.MonkeyPatch) -> None:
    fake = ModuleType("math_verify")
    calls: list[tuple[str, str]] = []

    def parse(text: str, parsing_timeout: int | None = 5) -> str:
        assert parsing_timeout is None
        return text

    def verify(gold: str, answer: str, timeout_seconds: int | None = 5) -> bool:
        assert timeout_seconds is None
        calls.append((gold, answer))
        return True

    fake.parse, fake.verify = parse, verify  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "math_verify", fake)
    reward = Math(MathOptions(verifier="math_verify"))
    assert judge(reward, r"\boxed{\sqrt{12}}", r"2\sqrt{3}") == 1
    assert judge(reward, r"\boxed{3}", "3") == 1
    assert calls == [(r"$2\sqrt{3}$", r"$\sqrt{12}$")]


def test_the_real_math_verify_knows_that_two_roots_are_equal() -> None:
    pytest.importorskip("math_verify")
    reward = Math(MathOptions(verifier="math_verify"))
    assert judge(reward, r"\boxed{\sqrt{12}}", r"2\sqrt{3}") == 1
    assert judge(reward, r"\boxed{\sqrt{12}}", r"3\sqrt{3}") == 0
