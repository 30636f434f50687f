"""Choices in the ways that models write them."""

from __future__ import annotations

from typing import Any

import pytest
from rlkit_rewards.multiple_choice import MultipleChoice
from rlkit_rewards.options import MultipleChoiceOptions

from rlkit.types import Prompt, Reward, Sample

CITIES = ["Lyon", "Paris", "Nice", "Paris, Texas"]
RIGHT, WRONG, NONE = (1.0, 1.0), (0.0, 1.0), (0.0, 0.0)


def judge(response: str, reference: Any = "B", of_row: Any = CITIES, **options: Any) -> Reward:
    extra = {} if of_row is None else {"choices": of_row}
    sample = Sample(Prompt(0, text="q", reference=reference, extra=extra), response)
    return MultipleChoice(MultipleChoiceOptions(**options))([sample])[0]


@pytest.mark.parametrize(
    ("response", "verdict"),
    [
        ("B", RIGHT),
        ("b", RIGHT),
        ("(B)", RIGHT),
        ("(b)", RIGHT),
        ("B.", RIGHT),
        ("B) Paris", RIGHT),
        ("B: Paris", RIGHT),
        ("[B]", RIGHT),
        ("**B**", RIGHT),
        ("`B`", RIGHT),
        ("answer: B", RIGHT),
        ("Answer: (B)", RIGHT),
        ("**Answer:** B", RIGHT),
        ("The answer is B.", RIGHT),
        ("The correct answer is option B.", RIGHT),
        ("Best choice B!", RIGHT),
        ("#### B", RIGHT),
        ("<answer>B</answer>", RIGHT),
        (r"$\boxed{B}$", RIGHT),
        (r"\boxed{\text{(B) Paris}}", RIGHT),
        (r"\boxed{\textbf{(B)}}", RIGHT),
        ("Paris", RIGHT),
        ("paris.", RIGHT),
        ("The answer is Paris.", RIGHT),
        ("It is Paris, of course", RIGHT),
        ("B\n\nBecause Paris is the capital of France.", RIGHT),
        ("A. no\nB. yes\nSo the answer is B", RIGHT),
        ("Option A is wrong. The answer: B", RIGHT),
        ("The answer is clear.\nIt must be (B).", RIGHT),
        ("B, not A", RIGHT),
        ("The answer is (B) because (A) is small", RIGHT),
        ("Paris, Texas", WRONG),
        ("Answer: C", WRONG),
        ("The answer is B. No, the answer is C", WRONG),
        ("D", WRONG),
        ("A or B", NONE),
        ("The answer is B or C", NONE),
        ("A, B, C, D", NONE),
        ("(A) (B) (C) (D)", NONE),
        ("A B C D", NONE),
        ("ABCD", NONE),
        ("A\nB\nC\nD and A", NONE),
        ("Lyon or Paris", NONE),
        ("E", NONE),
        ("", NONE),
        ("I am sorry, I cannot help with that.", NONE),
        ("A city in France", NONE),
    ],
)
def test_a_choice_is_found_where_one_is_made_and_several_are_none(response: str, verdict: tuple[float, float]) -> None:
    reward = judge(response)
    assert (reward.score, reward.parts["answered"]) == verdict


@pytest.mark.parametrize(
    ("reference", "choices", "response"),
    [
        ("B", CITIES, "B"),
        ("(b)", CITIES, "B"),
        ("Paris", CITIES, "B"),
        (1, CITIES, "B"),
        ("1", CITIES, "B"),
        ("2", {"label": ["1", "2"], "text": ["Lyon", "Paris"]}, "2"),
        ("2", {"label": ["1", "2"], "text": ["Lyon", "Paris"]}, "Paris"),
        ("B", {"A": "Lyon", "B": "Paris"}, "Paris"),
        ("The answer is B.", CITIES, "B"),
        ("C", None, "C"),
        ("F", None, "F"),
        ("3", None, "(3)"),
        (3, None, "3"),
        ("4", ["2", "4", "6"], "B"),  # a text wins over a position
    ],
)
def test_references_are_labels_texts_or_positions(reference: Any, choices: Any, response: str) -> None:
    assert judge(response, reference, choices).score == 1.0


@pytest.mark.parametrize("reference", [None, "", "Berlin", "7"])
def test_a_reference_that_is_no_choice_is_an_error_not_a_wrong_answer(reference: Any) -> None:
    with pytest.raises(ValueError, match=r"no reference|none of the choices"):
        judge("B", reference)


def test_choices_may_stand_in_the_options_or_in_a_column_of_any_name() -> None:
    assert judge("green", "B", None, choices=("red", "green")).score == 1.0
    sample = Sample(Prompt(0, text="q", reference="A", extra={"ways": ["left", "right"]}), "left")
    reward = MultipleChoice(MultipleChoiceOptions(column="ways"))
    assert reward([sample])[0].score == 1.0
    with pytest.raises(ValueError, match="no column 'ways'"):
        reward([Sample(Prompt(0, text="q", reference="A"), "left")])
    with pytest.raises(ValueError, match="no list of choices"):
        judge("B", "B", "Lyon")


def test_a_wrong_choice_can_be_given_a_little_and_none_nothing() -> None:
    scores = [judge(response, wrong_score=0.1).score for response in ("B", "C", "B or C")]
    assert scores == [1.0, 0.1, 0.0]


def test_the_letter_is_extracted_for_votes() -> None:
    reward = MultipleChoice(MultipleChoiceOptions())
    assert reward.extract_answer("The answer is (C)") == "C"
    assert reward.extract_answer("A or B") is None
