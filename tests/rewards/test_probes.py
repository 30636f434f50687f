"""Probes and right answers, as texts."""

from __future__ import annotations

from typing import Any

import pytest

from rlkit.rewards.probes import (
    NEIGHBOUR,
    PROBES,
    Probe,
    ProbeRow,
    final_answer,
    is_right_by_chance,
    right_answers,
    solution_of,
)
from rlkit.types import Prompt

BY_NAME = {probe.name: probe for probe in PROBES}


def row(own: str = "18", others: tuple[str, ...] = ("7", "9", "12"), neighbour: str = "#### 7") -> ProbeRow:
    return ProbeRow(Prompt(0, text="How many?", reference=own), own, others, neighbour, lambda text: f"#### {text}")


@pytest.mark.parametrize(
    ("reference", "answer"),
    [
        ("16 - 3 = 13\n#### 13", "13"),
        (r"so we get \boxed{\frac12} and \boxed{3}", "3"),
        ("18", "18"),
        (18, "18"),
        (["Paris", "paris"], "Paris"),
        ({"target": ["Paris"]}, "Paris"),
        ("a whole solution " * 20, ""),
        ("two\nlines", ""),
        ({"inputs": ["1"]}, ""),
        ([], ""),
        (None, ""),
    ],
)
def test_the_short_answer_of_a_reference_is_found(reference: Any, answer: str) -> None:
    assert final_answer(reference) == answer


def test_a_short_reference_is_written_in_every_form_and_a_long_one_as_it_is() -> None:
    short = right_answers(Prompt(0, text="q", reference="18"))
    assert short["as it is"] == "18" and short["#### N"] == "#### 18" and short["boxed"] == r"\boxed{18}"
    assert "by itself" not in short  # the same text
    assert list(right_answers(Prompt(0, text="q", reference="word " * 100))) == ["as it is"]
    assert right_answers(Prompt(0, text="q")) == {}


def test_the_rows_own_solution_counts_beside_a_reference_that_is_none() -> None:
    extra = {"extra_info": {"answer": "16 - 3 = 13\n#### 13"}}
    assert solution_of(Prompt(0, text="q", reference="13", extra=extra)) == "16 - 3 = 13\n#### 13"
    assert right_answers(Prompt(0, text="q", reference={"tests": []}, extra={"solution": "print(1)"})) == {
        "the row's solution": "print(1)"
    }


def test_probes_that_list_candidates_hold_the_own_answer_in_the_middle() -> None:
    text = BY_NAME["many candidates"].text(row()) or ""
    assert ", or 18, or " in text
    marked = (BY_NAME["many marked candidates"].text(row()) or "").split("\n")
    assert "#### 18" in marked[1:-1]
    assert BY_NAME["many candidates"].text(row(own="")) is None


def test_probes_that_need_another_row_or_a_question_are_left_out_without() -> None:
    assert BY_NAME[NEIGHBOUR].text(row(neighbour="")) is None
    assert BY_NAME[NEIGHBOUR].text(row()) == "#### 7"
    assert BY_NAME["prompt copied"].text(row()) == "How many?"


def test_no_probe_but_the_lists_of_candidates_holds_the_rows_own_answer() -> None:
    marker = "a very special answer"
    holding = [probe.name for probe in PROBES if marker in (probe.text(row(own=marker)) or "")]
    assert holding == ["many candidates", "many marked candidates"]


@pytest.mark.parametrize(("name", "own", "chance"), [("0", "0", True), ("yes", "Yes", True), ("0", "10", False)])
def test_a_constant_that_happens_to_be_right_is_noticed(name: str, own: str, chance: bool) -> None:
    probe: Probe = BY_NAME[name]
    assert is_right_by_chance(probe, row(own=own)) is chance
