"""When a model counts as lost."""

from __future__ import annotations

import json
import math

import pytest

from rlkit.errors import TrainingError
from rlkit.trainers.skipped_steps import MAX_SKIPPED_IN_A_ROW, SkippedSteps

LOST, FINE = {"critic/grad_norm": math.inf, "critic/loss": 1.0}, {"critic/grad_norm": 2.0}


def note(skipped: SkippedSteps, metrics: dict[str, float], times: int = 1, *, tokens: float = 5) -> None:
    for _ in range(times):
        skipped.note(metrics, tokens=tokens, step=7)


def test_too_many_in_a_row_end_the_run_and_the_message_names_the_model():
    skipped = SkippedSteps()
    note(skipped, LOST, MAX_SKIPPED_IN_A_ROW - 1)
    with pytest.raises(TrainingError, match=r"20 .* non-finite critic gradients \(step 7\); lower critic\.lr"):
        note(skipped, LOST)


def test_a_finite_gradient_begins_the_count_anew():
    skipped = SkippedSteps()
    note(skipped, LOST, MAX_SKIPPED_IN_A_ROW - 1)
    note(skipped, FINE)
    note(skipped, LOST, MAX_SKIPPED_IN_A_ROW - 1)
    assert skipped.in_a_row == {"critic": MAX_SKIPPED_IN_A_ROW - 1}


def test_models_are_counted_apart():
    skipped = SkippedSteps()
    note(skipped, {"actor/grad_norm": 1.0, **LOST}, 3)
    assert skipped.in_a_row == {"actor": 0, "critic": 3}


def test_a_mini_batch_without_a_token_neither_counts_nor_clears():
    skipped = SkippedSteps()
    note(skipped, LOST, 3)
    note(skipped, FINE, tokens=0)
    note(skipped, LOST, tokens=0)
    assert skipped.in_a_row == {"critic": 3}


def test_the_count_survives_a_checkpoint():
    skipped = SkippedSteps()
    note(skipped, LOST, 3)
    assert SkippedSteps(**json.loads(json.dumps({"in_a_row": skipped.in_a_row}))) == skipped
