"""gsm8k (strict and flexible) and math agree with a table of awkward answers, each judged by hand, in time that grows with
the answer's length only.

A row of awkward_answers.jsonl: answer (a text, or pieces of which [text, n] stands for n times the text), reference, the
verdicts (1 right, 0 wrong, null where the reference is none for that scorer), and why. math is with math-verify;
math_builtin without it, where that differs.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from rlkit_rewards.gsm8k import GSM8K
from rlkit_rewards.math import Math
from rlkit_rewards.options import GSM8KOptions, MathOptions

from rlkit.types import Prompt, Sample


@dataclass(frozen=True)
class AwkwardAnswer:
    """One row of the table; `place` is its line."""

    place: int
    answer: str
    reference: Any
    strict: int | None
    flexible: int | None
    math: int
    math_builtin: int
    why: str


def load_table(path: Path) -> list[AwkwardAnswer]:
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    return [
        AwkwardAnswer(
            place,
            _text(row["answer"]),
            row["reference"],
            row["strict"],
            row["flexible"],
            row["math"],
            row.get("math_builtin", row["math"]),
            row["why"],
        )
        for place, row in enumerate(rows, start=1)
    ]


def _text(answer: str | list[Any]) -> str:
    if isinstance(answer, str):
        return answer
    return "".join(piece if isinstance(piece, str) else piece[0] * piece[1] for piece in answer)


TABLE = load_table(Path(__file__).with_name("awkward_answers.jsonl"))
STRICT = GSM8K(GSM8KOptions(method="strict"))
FLEXIBLE = GSM8K(GSM8KOptions())
BUILTIN = Math(MathOptions(verifier="builtin"))

pytestmark = pytest.mark.timeout(60)  # a quadratic scan of 100 kB takes longer, a linear one milliseconds


def verdict(reward: GSM8K | Math, row: AwkwardAnswer) -> int | None:
    """1 right, 0 wrong, None where the reference is none for this scorer."""
    try:
        score = reward([Sample(Prompt(0, text="q", reference=row.reference), row.answer)])[0].score
    except ValueError:
        return None
    return int(score)


@pytest.mark.parametrize("row", TABLE, ids=lambda row: f"{row.place}-{row.why}")
def test_awkward_answers_are_judged_as_by_hand(row: AwkwardAnswer) -> None:
    found = (verdict(STRICT, row), verdict(FLEXIBLE, row), verdict(BUILTIN, row))
    assert found == (row.strict, row.flexible, row.math_builtin)


@pytest.mark.parametrize("row", TABLE, ids=lambda row: f"{row.place}-{row.why}")
def test_awkward_answers_are_judged_as_by_hand_with_math_verify(row: AwkwardAnswer) -> None:
    pytest.importorskip("math_verify")
    assert verdict(Math(MathOptions(verifier="math_verify")), row) == row.math


def test_the_table_is_long_and_mixed_enough_to_mean_something() -> None:
    assert len(TABLE) >= 150
    assert len({(row.answer, str(row.reference)) for row in TABLE}) == len(TABLE)
    for column in ("strict", "flexible", "math"):
        verdicts = [getattr(row, column) for row in TABLE]
        assert min(verdicts.count(0), verdicts.count(1)) >= 40
