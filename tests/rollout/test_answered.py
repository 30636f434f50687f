"""One bad prompt does not take the others with it."""

from __future__ import annotations

from collections import Counter

import pytest

from rlkit.errors import ClusterError, ModelError
from rlkit.rollout.answered import InProcessAnswers, reason_of
from rlkit.testing.simulated_replicas import Faults, RowEngine, row_prompts
from rlkit.types import PromptBatch, Rollouts, SamplingParams

SAMPLING = SamplingParams(max_tokens=9, samples=2, seed=1)


def test_bad_rows_are_found_and_the_rest_is_answered_as_without_them() -> None:
    engine = RowEngine(Faults(refuses=Counter({3: 99, 9: 99})))
    (done,) = InProcessAnswers(engine)([row_prompts(range(12))], SAMPLING, keep_going=True)
    assert [failed.prompt.row_id for failed in done.failed] == [3, 9]
    good = row_prompts([row for row in range(12) if row not in (3, 9)])
    assert done.rollouts is not None
    expected = RowEngine(Faults()).generate(good, SAMPLING)
    assert done.rollouts.response_ids.values.tolist() == expected.response_ids.values.tolist()
    assert done.rollouts.group_ids.tolist() == expected.group_ids.tolist()
    assert len(engine.calls) < 16


def test_without_keep_going_the_first_fault_raises() -> None:
    engine = RowEngine(Faults(refuses=Counter({3: 99})))
    with pytest.raises(ModelError, match="row 3"):
        next(InProcessAnswers(engine)([row_prompts(range(12))], SAMPLING, keep_going=False))


def test_a_batch_without_faults_is_asked_once() -> None:
    engine = RowEngine(Faults())
    (done,) = InProcessAnswers(engine)([row_prompts(range(12))], SAMPLING, keep_going=True)
    assert done.rollouts is not None
    assert len(engine.calls) == 1


def test_what_ends_every_run_is_no_fault_of_a_row() -> None:
    class Gone(RowEngine):
        def generate(self, prompts: PromptBatch, sampling: SamplingParams) -> Rollouts:
            raise ClusterError("no replica is left")

    with pytest.raises(ClusterError):
        next(InProcessAnswers(Gone(Faults()))([row_prompts(range(4))], SAMPLING, keep_going=True))


def test_reasons_are_one_line_and_foreign_errors_name_their_type() -> None:
    assert reason_of(ModelError("too\n long")) == "too long"
    assert reason_of(KeyError("a")) == "KeyError: 'a'"
