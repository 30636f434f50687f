"""GSM8K answers as models really write them, judged by hand."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from rlkit_rewards.gsm8k import GSM8K, reference_number
from rlkit_rewards.options import GSM8KOptions

from rlkit.types import Prompt, Sample

FLEXIBLE = GSM8K(GSM8KOptions())
STRICT = GSM8K(GSM8KOptions(method="strict"))

# response, reference, right under flexible, right under strict
TABLE: list[tuple[str, Any, bool, bool]] = [
    ("#### 18", "18", True, True),
    ("9 * 2 = 18\n#### 18", "She makes <<9*2=18>>18.\n#### 18", True, True),
    ("####18", "18", True, True),
    ("#### 18.", "18", True, True),
    ("#### 18.0", "18", True, True),
    ("#### 18.00 dollars", "18", True, True),
    ("#### 18.5", "18", False, False),
    ("#### $18", "18", True, True),
    ("#### $ 18", "18", True, True),
    ("#### \\$18", "18", True, True),
    ("#### 18 eggs for 4 people", "18", True, True),
    ("#### **18**", "18", True, True),
    ("#### \\boxed{18}", "18", True, False),
    ("#### 17\nWait.\n#### 18", "18", True, True),
    ("#### 18\n#### 17", "18", False, False),
    ("#### 18\nSo for 3 days 54.", "18", True, True),
    ("#### 1,234", "1234", True, True),
    ("#### 1,234,567.50", "1234567.5", True, True),
    ("#### 1{,}234", "1234", True, True),
    ("#### 1\u202f234", "1234", True, True),
    ("#### 1\u00a0234", "1234", True, True),
    ("#### 1234", "1,234", True, True),
    ("#### 12,34", "1234", False, False),
    ("#### 1,0000", "0", False, False),
    ("#### -5", "-5", True, True),
    ("#### \u22125", "-5", True, True),
    ("#### \u20135", "-5", True, True),
    ("#### - 5", "-5", True, True),
    ("#### -$5", "-5", True, True),
    ("#### $-5", "-5", True, True),
    ("#### 5", "-5", False, False),
    ("#### +5", "5", True, True),
    ("#### 50%", "50", True, True),
    ("#### 50\\%", "50%", True, True),
    ("#### 0.5", "50", False, False),
    ("#### .5", "0.5", True, True),
    ("#### 1/2", "0.5", True, True),
    ("#### 1 1/2", "1.5", True, True),
    ("#### 3/0", "3", False, False),
    ("#### \uff11\uff18", "18", True, True),
    ("#### \u0661\u0668", "18", True, True),
    ("#### 1e3", "1000", True, True),
    ("#### 1e999999999", "1000", False, False),
    ("#### " + "9" * 5000, "9", False, False),
    ("#### unknown, maybe 18", "18", True, False),
    ("####", "18", False, False),
    ("", "18", False, False),
    ("   \n\t", "18", False, False),
    ("I do not know.", "18", False, False),
    ("The answer is 18.", "18", True, False),
    ("The answer is: **18**", "18", True, False),
    ("The final answer is $18 per day.", "18", True, False),
    ("The answer is 18 eggs for 4 people.", "18", True, False),
    ("The answer is 16 + 2 = 18 eggs.", "18", True, False),
    ("Answer: 18", "18", True, False),
    ("The answer is 17. No, the answer is 18.", "18", True, False),
    ("So she has \\boxed{18} eggs, 3 a day.", "18", True, False),
    ("\\boxed{17} and then \\boxed{18}", "18", True, False),
    ("\\boxed{\\$1{,}800}", "1800", True, False),
    ("\\boxed{18", "18", True, False),
    ("16 - 3 = 13, so 13 + 5 = 18", "18", True, False),
    ("She has 16 - 3", "3", True, False),
    ("She has 16-3", "3", True, False),
    ("x = - 5", "-5", True, False),
    ("The total is 18...", "18", True, False),
    ("The total is...18", "18", True, False),
    ("The area is 18 cm^2", "18", True, False),
    ("The area is 18 cm\u00b2", "18", True, False),
    ("She drinks 18 litres of H2O", "18", True, False),
    ("It takes 18 days, on the 3rd of May", "18", True, False),
    ("It takes 18 days, on the 22nd", "18", True, False),
    ("18 or 19", "18", False, False),
    ("Either 3,4", "4", True, False),
    ("eighteen", "18", False, False),
    ("\u7b54\u6848\u662f18\u3002", "18", False, False),
    ("\u7b54\u6848\u662f 18\u3002", "18", True, False),
    ("x" * 100_000 + " 18", "18", True, False),
    ("1 " * 50_000 + "#### 18", "18", True, True),
    ("#### " * 20_000 + "18", "18", True, True),
    ("\\boxed{" * 15_000 + "18", "18", True, False),
    ("18", 18, True, False),
    ("18", 18.0, True, False),
]


def judge(reward: GSM8K, response: str, reference: Any) -> float:
    return reward([Sample(Prompt(0, text="q", reference=reference), response)])[0].score


@pytest.mark.parametrize(("response", "reference", "flexible", "strict"), TABLE, ids=range(len(TABLE)))
def test_awkward_answers_are_judged_as_by_hand(response: str, reference: Any, flexible: bool, strict: bool) -> None:
    assert judge(FLEXIBLE, response, reference) == float(flexible)
    assert judge(STRICT, response, reference) == float(strict)


def test_the_table_is_long_enough_to_mean_something() -> None:
    assert len(TABLE) >= 60


@pytest.mark.parametrize("split", ["train", "test"])
def test_gsm8ks_own_solutions_all_score_one_and_shifted_ones_zero(split: str) -> None:
    repository = Path(__file__).resolve().parents[3]
    folder = Path(os.environ.get("RLKIT_SHARED_DATA", repository.parent / "shared" / "data"))
    path = folder / f"gsm8k_{split}.jsonl"
    if not path.is_file():
        pytest.skip(f"no GSM8K at {path} (set RLKIT_SHARED_DATA)")
    answers = [json.loads(line)["answer"] for line in path.read_text(encoding="utf-8").splitlines()]
    for reward in (FLEXIBLE, STRICT):
        samples = [Sample(Prompt(i, text="q", reference=answer), answer) for i, answer in enumerate(answers)]
        assert sum(verdict.score for verdict in reward(samples)) == len(answers)
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
