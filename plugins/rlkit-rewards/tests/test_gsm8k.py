"""GSM8K answers as models really write them, judged by hand."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from rlkit_rewards.gsm8k import GSM8K, reference_number
from rlkit_rewards.math import Math
from rlkit_rewards.options import GSM8KOptions, MathOptions

from rlkit.types import Prompt, Sample

FLEXIBLE = GSM8K(GSM8KOptions())
STRICT = GSM8K(GSM8KOptions(method="strict"))
AUTO = Math(MathOptions())
BUILTIN = Math(MathOptions(verifier="builtin"))


@pytest.mark.parametrize("split", [pytest.param("train", marks=pytest.mark.slow), "test"])
def test_gsm8ks_own_solutions_all_score_one_and_shifted_ones_zero(split: str) -> None:
    repository = Path(__file__).resolve().parents[3]
    folder = Path(os.environ.get("RLKIT_SHARED_DATA", repository.parent / "shared" / "data"))
    path = folder / f"gsm8k_{split}.jsonl"
    if not path.is_file():
        pytest.skip(f"no GSM8K at {path} (set RLKIT_SHARED_DATA)")
    answers = [json.loads(line)["answer"] for line in path.read_text(encoding="utf-8").splitlines()]
    for reward in (FLEXIBLE, STRICT, BUILTIN, AUTO):
        samples = [Sample(Prompt(i, text="q", reference=answer), answer) for i, answer in enumerate(answers)]
        assert sum(verdict.score for verdict in reward(samples)) == len(answers)
        if reward is AUTO:
            continue  # compares every wrong answer symbolically
        wrong = [Sample(sample.prompt, f"{sample.response}1") for sample in samples]
        assert sum(verdict.score for verdict in reward(wrong)) == 0


@pytest.mark.parametrize("reference", [None, "", "no number", "####", ["18"]])
def test_a_reference_without_a_number_is_an_error_not_a_wrong_answer(reference: Any) -> None:
    with pytest.raises(ValueError, match="neither a number nor a solution"):
        reference_number(reference)


def test_a_wrong_number_can_be_given_a_little_and_no_number_nothing() -> None:
    reward = GSM8K(GSM8KOptions(wrong_score=0.1))
    prompt = Prompt(0, text="q", reference="18")
    verdicts = reward([Sample(prompt, text) for text in ("18", "17", "none")])
    assert [verdict.score for verdict in verdicts] == [1.0, 0.1, 0.0]
    assert [verdict.parts["answered"] for verdict in verdicts] == [1.0, 1.0, 0.0]


def test_equal_numbers_are_extracted_in_one_spelling() -> None:
    spellings = ["#### 1,500", "so $1500.00", "\\boxed{1500}", "3000/2"]
    assert {FLEXIBLE.extract_answer(text) for text in spellings} == {"1500"}
    assert FLEXIBLE.extract_answer("none") is None
