"""Equality, as the options define it."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError
from rlkit_rewards.exact_match import ExactMatch
from rlkit_rewards.options import ExactMatchOptions

from rlkit.types import Prompt, Sample


@pytest.mark.parametrize(
    ("options", "response", "reference", "right"),
    [
        ({}, " 42\n", "42", True),
        ({}, "42", 42, True),
        ({}, "42.", "42", False),
        ({}, "", "42", False),
        ({}, "Yes", "yes", False),
        ({}, "b", ["a", "b"], True),
        ({}, "c", ["a", "b"], False),
        ({}, "7+5=12 3+8+1=12 #### 122", "122", True),
        ({}, "7+5=12 #### 12", "122", False),
        ({}, "#### 1 #### 2\nand more", "so it is\n#### 2", True),
        ({}, "#### 1", "2 #### 1", True),
        ({"marker": ""}, "#### 1", "1", False),
        ({"strip": False}, " 42", "42", False),
        ({"ignore_case": True}, "STRASSE", "Stra\u00dfe", True),
        ({"numeric": True}, "1,000.0", "1000", True),
        ({"numeric": True}, "$5", "5.00", True),
        ({"numeric": True}, "\u22123", -3, True),
        ({"numeric": True}, "about 5", "5", False),
        ({"numeric": True}, "5 6", "6", False),
        ({"extract": r"<answer>(.*?)</answer>"}, "<answer>4</answer> <answer> 5\n</answer>", "5", True),
        ({"extract": r"-?\d+"}, "3 + 4 = 7", "7", True),
        ({"extract": r"-?\d+"}, "none", "7", False),
        ({"extract": r"-?[\d.]+", "numeric": True}, "it is 7.0", "7", True),
    ],
)
def test_options_decide_what_is_equal(options: dict[str, Any], response: str, reference: Any, right: bool) -> None:
    reward = ExactMatch(ExactMatchOptions(**options))
    assert reward([Sample(Prompt(0, text="q", reference=reference), response)])[0].score == float(right)


@pytest.mark.parametrize(
    ("options", "reference", "reason"),
    [({}, None, "no reference"), ({}, [], "empty"), ({"numeric": True}, "x", "not a number")],
)
def test_an_unusable_reference_is_an_error_not_a_wrong_answer(
    options: dict[str, Any], reference: Any, reason: str
) -> None:
    with pytest.raises(ValueError, match=reason):
        ExactMatch(ExactMatchOptions(**options))([Sample(Prompt(0, text="q", reference=reference), "x")])


def test_a_broken_regular_expression_is_refused_with_the_options() -> None:
    with pytest.raises(ValidationError, match="not a regular expression"):
        ExactMatchOptions(extract="(")
