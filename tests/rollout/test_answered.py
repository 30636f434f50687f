"""One bad prompt does not take the others with it."""

from __future__ import annotations

from collections import Counter

import pytest

from rlkit.errors import ClusterError, ModelError, RolloutError
from rlkit.rollout.answered import BatchAfterBatch, reason_of
from rlkit.rollout.foreign_calls import AbandonedCallsError
from rlkit.testing.simulated_replicas import Faults, RowEngine, row_prompts
from rlkit.types import PromptBatch, Rollouts, SamplingParams

SAMPLING = SamplingParams(max_tokens=9, samples=2, seed=1)


def test_bad_rows_are_found_and_the_rest_is_answered_as_without_them() -> None:
    engine = RowEngine(Faults(refuses=Counter({3: 99, 9: 99})))
    (done,) = BatchAfterBatch(engine)([row_prompts(range(12))], SAMPLING, keep_going=True)
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
        next(BatchAfterBatch(engine)([row_prompts(range(12))], SAMPLING, keep_going=False))


def test_a_batch_without_faults_is_asked_once() -> None:
    engine = RowEngine(Faults())
    (done,) = BatchAfterBatch(engine)([row_prompts(range(12))], SAMPLING, keep_going=True)
    assert done.rollouts is not None
    assert len(engine.calls) == 1


def test_what_ends_every_run_is_no_fault_of_a_row() -> None:
    class Gone(RowEngine):
        def generate(self, prompts: PromptBatch, sampling: SamplingParams) -> Rollouts:
            raise ClusterError("no replica is left")

    with pytest.raises(ClusterError):
        next(BatchAfterBatch(Gone(Faults()))([row_prompts(range(4))], SAMPLING, keep_going=True))


class Breaks(RowEngine):
    """Answers calls until a row of `deadly` has been asked for, and nothing after that."""

    def __init__(self, *deadly: int, error: Exception | None = None) -> None:
        super().__init__(Faults())
        self.deadly, self.is_broken = frozenset(deadly), False
        self.error = error or RuntimeError("CUDA error: an illegal memory access was encountered")

    def generate(self, prompts: PromptBatch, sampling: SamplingParams) -> Rollouts:
        self.is_broken = self.is_broken or not self.deadly.isdisjoint(prompt.row_id for prompt in prompts.prompts)
        if self.is_broken:
            raise self.error
        return super().generate(prompts, sampling)


BATCHES = [row_prompts(range(start, start + 4)) for start in range(0, 16, 4)]


@pytest.mark.parametrize("error", [RuntimeError("CUDA error"), ValueError("it is dead"), ModelError("no weights")])
def test_an_engine_that_breaks_ends_the_run_and_no_row_is_blamed(error: Exception) -> None:
    answers = BatchAfterBatch(Breaks(9, error=error))(BATCHES, SAMPLING, keep_going=True)
    assert [len(next(answers).failed) for _ in range(2)] == [0, 0]
    with pytest.raises(RolloutError, match=r"engine is broken: it fails at row 4 too, which .*: .*(CUDA|dead|weights)"):
        next(answers)


def test_an_engine_that_is_broken_from_the_first_lone_prompt_on_ends_the_run() -> None:
    single = [row_prompts([row]) for row in range(3)]
    with pytest.raises(RolloutError, match=r"row 0.*CUDA error"):
        next(BatchAfterBatch(Breaks(0))(single, SAMPLING, keep_going=True))


def test_lone_prompts_that_break_nothing_are_passed_over_when_the_engine_is_known_to_answer() -> None:
    engine = RowEngine(Faults(breaks=Counter({5: 99}), refuses=Counter({6: 99})))
    answers = BatchAfterBatch(engine, proven=row_prompts([1]))
    done = list(answers([row_prompts([5]), row_prompts([6])], SAMPLING, keep_going=True))
    assert [batch.failed[0].error for batch in done] == [
        "RuntimeError: CUDA error: device-side assert triggered", "row 6 is too long",
    ]  # fmt: skip
    assert all(batch.engine_answers for batch in done)


def test_rows_that_fail_by_themselves_are_passed_over_whatever_they_raise() -> None:
    engine = RowEngine(Faults(breaks=Counter({0: 99, 3: 99, 12: 99, 13: 99, 14: 99, 15: 99})))
    done = list(BatchAfterBatch(engine)(BATCHES, SAMPLING, keep_going=True))
    assert [[failed.prompt.row_id for failed in batch.failed] for batch in done] == [[0, 3], [], [], [12, 13, 14, 15]]


def test_calls_that_never_come_back_end_the_run() -> None:
    with pytest.raises(AbandonedCallsError):
        next(BatchAfterBatch(Breaks(0, error=AbandonedCallsError("32 calls")))(BATCHES, SAMPLING, keep_going=True))


def test_reasons_are_one_line_and_foreign_errors_name_their_type() -> None:
    assert reason_of(ModelError("too\n long")) == "too long"
    assert reason_of(KeyError("a")) == "KeyError: 'a'"
