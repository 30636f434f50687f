"""Which validation is the best, and when a difference may be claimed."""

from __future__ import annotations

import json

import pytest

from rlkit.tracking.validation_record import ValidationRecord, ValidationScore


def metrics(score: float, half: float = 0.05, prompts: int = 40) -> dict[str, float]:
    return {
        "validation/score": score,
        "validation/score_low": score - half,
        "validation/score_high": score + half,
        "validation/prompts": float(prompts),
    }


def record_of(scores: dict[int, float], half: float = 0.05) -> ValidationRecord:
    record = ValidationRecord()
    for step, score in scores.items():
        record.note(step, metrics(score, half))
    return record


def test_the_highest_score_is_the_best_and_the_earliest_of_equal_ones():
    record = ValidationRecord()
    noted = [record.note(step, metrics(score)) for step, score in ((2, 0.5), (4, 0.4), (6, 0.7), (8, 0.7))]
    assert noted == [True, False, True, False]
    assert record.best_step == 6


def test_the_starting_model_is_measured_against_and_never_the_best():
    record = record_of({0: 0.9, 2: 0.5, 4: 0.6})
    assert (record.start.score, record.best_step, record.last.step, record.previous.step) == (0.9, 4, 4, 2)
    assert not ValidationRecord().note(0, metrics(0.9))


@pytest.mark.parametrize(
    ("score", "verdict"),
    [(0.81, "better"), (0.75, "not distinguishable"), (0.65, "not distinguishable"), (0.5, "worse")],
)
def test_only_intervals_that_do_not_touch_are_distinguishable(score, verdict):
    other = ValidationScore(1, 0.7, 0.65, 0.75, prompts=40)
    assert ValidationScore(2, score, score - 0.05, score + 0.05, prompts=40).against(other) == verdict


def test_a_single_prompt_shows_nothing():
    first, second = (ValidationScore(step, score, score, score, prompts=1) for step, score in ((1, 0.1), (2, 0.9)))
    assert second.against(first) == "not distinguishable"


def test_the_sentence_says_what_may_be_claimed():
    assert record_of({0: 0.5, 60: 0.81, 80: 0.79}).sentence() == (
        "best validation 0.810 (0.760 to 0.860) at step 60; the last, at step 80, has 0.790 (0.740 to 0.840): "
        "not distinguishable; the starting model has 0.500 (0.450 to 0.550): worse"
    )
    assert record_of({20: 0.5, 40: 0.81}).sentence() == "best validation 0.810 (0.760 to 0.860) at step 40, the last"
    assert record_of({0: 0.5}).sentence() == ""


def test_the_description_sets_the_others_beside_the_best():
    described = record_of({0: 0.5, 2: 0.8, 4: 0.78, 6: 0.6}).describe()
    assert described["best"] == {"step": 2, "score": 0.8, "low": 0.75, "high": 0.8 + 0.05, "prompts": 40}
    assert {name: (other["step"], other["against_best"]) for name, other in described["others"].items()} == {
        "start": (0, "worse"),
        "previous": (4, "not distinguishable"),
        "last": (6, "worse"),
    }
    assert record_of({0: 0.5}).describe() == {}


@pytest.mark.parametrize("scores", [{}, {0: 0.5}, {0: 0.5, 2: 0.8, 4: 0.7, 6: 0.6}])
def test_a_record_survives_a_checkpoint(scores):
    record, again = record_of(scores), ValidationRecord()
    record.subject = "these prompts"
    again.restore(json.loads(json.dumps(record.as_json())))
    assert again == record


def test_it_knows_whether_a_step_has_been_validated():
    record = record_of({0: 0.5, 2: 0.8})
    assert (record.covers(2), record.covers(0), ValidationRecord().covers(0)) == (True, False, False)
