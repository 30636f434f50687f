"""Length penalties at their corners."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError
from rlkit_rewards.length import Length
from rlkit_rewards.options import LengthOptions

from rlkit.types import Prompt, Sample

OVERLONG = {"max_length": 100, "buffer": 20}


@pytest.mark.parametrize(
    ("options", "tokens", "score"),
    [
        (OVERLONG, 0, 0.0),
        (OVERLONG, 80, 0.0),
        (OVERLONG, 85, -0.25),
        (OVERLONG, 100, -1.0),
        (OVERLONG, 500, -1.0),
        ({**OVERLONG, "penalty": 0.5}, 90, -0.25),
        ({"mode": "target", "target_length": 10}, 10, 0.0),
        ({"mode": "target", "target_length": 10}, 5, -0.5),
        ({"mode": "target", "target_length": 10}, 15, -0.5),
        ({"mode": "target", "target_length": 10}, 90, -1.0),
        ({"mode": "brevity", "max_length": 100}, 25, -0.25),
        ({"mode": "brevity", "max_length": 100}, 250, -1.0),
    ],
)
def test_the_penalty_follows_its_formula(options: dict[str, Any], tokens: int, score: float) -> None:
    verdict = Length(LengthOptions(**options))([Sample(Prompt(0, text="q"), "x" * tokens, num_response_tokens=tokens)])[
        0
    ]
    assert verdict.score == pytest.approx(score)
    assert verdict.parts == {"length": tokens}


def test_characters_need_no_token_count_and_tokens_do() -> None:
    sample = Sample(Prompt(0, text="q"), "x" * 90)
    assert Length(LengthOptions(**OVERLONG, unit="characters"))([sample])[0].score == -0.5
    with pytest.raises(ValueError, match="no token count"):
        Length(LengthOptions(**OVERLONG))([sample])


def test_a_buffer_wider_than_the_limit_is_refused() -> None:
    with pytest.raises(ValidationError, match="wider than max_length"):
        LengthOptions(max_length=10, buffer=20)
