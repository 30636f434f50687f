"""Symbolic equality, and what it does not even try."""

from __future__ import annotations

import pytest

pytest.importorskip("math_verify")

from rlkit_rewards.symbolic import build_verifier, is_equal_symbolically


@pytest.mark.parametrize(
    ("given", "expected", "equal"),
    [
        (r"\sqrt{12}", r"2\sqrt{3}", True),
        (r"\sqrt{12}", r"3\sqrt{3}", False),
        ("(x+1)^2", "x^2+2x+1", True),
        ("x<3", "3>x", True),
        ("0.333333", r"\frac13", True),  # six digits are enough for it
        ("0.333", r"\frac13", False),
        (r"50\%", "0.5", False),  # it would say yes
        (r"50\%", "50", True),
        ("x^2y^2", "y^{2}x^{2}", True),
        ("(x+1)^{10}", "(1+x)^{10}", True),
        ("2^{-3}", r"\frac18", True),
    ],
)
def test_expressions_are_compared_by_what_they_mean(given: str, expected: str, equal: bool) -> None:
    assert is_equal_symbolically(given, expected) is equal


@pytest.mark.parametrize(
    "bomb",
    [
        "9^{9^{9}}",
        "9^{9^{9^9}}",
        "9**9**9**9",
        "2^{100000000}",
        "{9^9}^{9^{99}}",
        r"9^{\frac{9^9}{1}}",
        "9^{50*50*50*50*50}",
        "((9^{99})^{99})^{99}",
        "9^9 ^9^9",
        r"2^\left(9^9\right)",
        "99999999!",
        r"\sum_{i=1}^{10^9} i",
        r"\binom{10^9}{5}",
        r"\int_0^1 x^x dx",
        "1" * 1000,
        "x+" * 10_000,
        r"\sqrt{" * 60 + "2" + "}" * 60,
    ],
)
def test_what_could_take_for_ever_is_not_compared(bomb: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse() -> None:
        raise AssertionError("handed over")

    monkeypatch.setattr("rlkit_rewards.symbolic._functions", refuse)
    assert not is_equal_symbolically(bomb, "1")
    assert not is_equal_symbolically("1", bomb)


def test_the_builtin_comparison_needs_no_verifier() -> None:
    assert build_verifier("builtin") is None
    assert build_verifier("auto") is build_verifier("math_verify") is is_equal_symbolically
