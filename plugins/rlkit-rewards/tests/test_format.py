"""Form, whatever the content."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError
from rlkit_rewards.format import Format
from rlkit_rewards.options import FormatOptions

from rlkit.types import Prompt, Sample


@pytest.mark.parametrize(
    ("options", "response", "right"),
    [
        ({}, "<think>a\nb</think>\n<answer>4</answer>\n", True),
        ({}, "Sure! <think>a</think><answer>4</answer>", False),
        ({"match": "partial"}, "Sure! <think>a</think><answer>4</answer> Bye", True),
        ({"pattern": r"#### \d+", "match": "partial"}, "x\n#### 18", True),
        ({"pattern": r"#### \d+"}, "x\n#### 18", False),
        ({"pattern": "yes"}, "YES", False),
        ({"pattern": "yes", "ignore_case": True}, "YES", True),
        ({}, "", False),
    ],
)
def test_the_pattern_has_to_match_all_or_part(options: dict[str, Any], response: str, right: bool) -> None:
    assert Format(FormatOptions(**options))([Sample(Prompt(0, text="q"), response)])[0].score == float(right)


def test_a_broken_regular_expression_is_refused_with_the_options() -> None:
    with pytest.raises(ValidationError, match="not a regular expression"):
        FormatOptions(pattern="[")
