"""A batch begins before the one before it is done; what comes out is what came out batch after batch."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

import pytest

from rlkit.errors import ModelError, RolloutError
from rlkit.rollout.answered import AnsweredBatch, BatchAfterBatch
from rlkit.rollout.overlapping import BATCHES_AHEAD, OverlappingBatches
from rlkit.testing.fake_serving import FakeServingEngine
from rlkit.testing.fakes import FakeTokenizer
from rlkit.types import CompletionChunk, CompletionRequest, Prompt, PromptBatch, Rollouts, SamplingParams

SAMPLING = SamplingParams(max_tokens=40, samples=2, seed=3)


def batch(rows: Sequence[int]) -> PromptBatch:
    return PromptBatch(tuple(Prompt(row_id=row) for row in rows), tuple((7, 8, 9 + row % 3) for row in rows))


BATCHES = [batch(range(start, start + 4)) for start in range(0, 24, 4)]


def answer(request: CompletionRequest) -> Sequence[int]:
    """Of very different length: row 0 takes longest."""
    length = 1 + (37 * request.row_id + 11 * request.sample) % 17 if request.row_id else 39
    return [5 + (request.row_id + request.sample + position) % 20 for position in range(length)]


@dataclass
class Engine(FakeServingEngine):
    """Refuses rows at once, breaks when it comes to others, or for good."""

    refused: frozenset[int] = frozenset()
    breaks_at: frozenset[int] = frozenset()
    is_broken: bool = False
    breaks_for_good: bool = False
    steps: list[int] = field(default_factory=list)
    asked_apart: set[int] = field(default_factory=set)

    def submit(self, request: CompletionRequest) -> None:
        if request.row_id in self.refused:
            raise ModelError(f"row {request.row_id} is too long")
        super().submit(request)

    def step(self) -> Sequence[CompletionChunk]:
        self.steps.append(len(self._live))
        self._check([live.request.row_id for live in self._live.values()])
        return super().step()

    def generate(self, prompts: PromptBatch, sampling: SamplingParams) -> Rollouts:
        assert not self.has_work, "generate is not called while there is work"
        self.asked_apart |= {prompt.row_id for prompt in prompts.prompts}
        self._check([prompt.row_id for prompt in prompts.prompts])
        return super().generate(prompts, sampling)

    def _check(self, rows: Sequence[int]) -> None:
        struck = not self.breaks_at.isdisjoint(rows)
        self.is_broken = self.is_broken or (struck and self.breaks_for_good)
        if struck or self.is_broken:
            raise RuntimeError("CUDA error: device-side assert triggered")


def engine(**more: object) -> Engine:
    return Engine(FakeTokenizer(), answer=answer, max_live=6, **more)  # type: ignore[arg-type]


def run(made: Engine, batches: Sequence[PromptBatch] = BATCHES, *, keep_going: bool = True) -> list[AnsweredBatch]:
    return list(OverlappingBatches(made)(batches, SAMPLING, keep_going=keep_going))


def contents(done: AnsweredBatch) -> object:
    found = done.rollouts
    assert found is not None and found.rollout_log_probs is not None
    return (
        [row.tolist() for row in found.response_ids.rows()],
        [row.tolist() for row in found.prompt_ids.rows()],
        found.rollout_log_probs.values.tolist(),
        found.group_ids.tolist(),
        found.finish_reasons,
        [prompt.row_id for prompt in found.prompts],
        found.policy_version,
    )


@pytest.mark.parametrize("keep_going", [True, False])
def test_the_answers_are_those_of_one_batch_after_another(keep_going: bool) -> None:
    after_each_other = list(BatchAfterBatch(engine())(BATCHES, SAMPLING, keep_going=keep_going))
    assert list(map(contents, run(engine(), keep_going=keep_going))) == list(map(contents, after_each_other))


def test_a_row_that_is_asked_twice_goes_on_with_new_samples() -> None:
    twice = [batch([3, 3, 1])]
    (done,) = OverlappingBatches(engine())(twice, replace(SAMPLING, samples=1), keep_going=True)
    assert done.rollouts is not None
    first, second, _ = (row.tolist() for row in done.rollouts.response_ids.rows())
    assert first != second


def test_the_engine_always_has_enough_to_do_until_the_end() -> None:
    made = engine()
    run(made)
    fewer = [number for number, live in enumerate(made.steps) if live < 6]
    assert fewer == list(range(len(made.steps) - len(fewer), len(made.steps)))
    assert len(fewer) < len(made.steps) / 3


def test_only_so_many_batches_are_begun_before_the_first_is_done() -> None:
    begun: list[int] = []

    def coming() -> Iterator[PromptBatch]:
        for number, prompts in enumerate(batch([row, row + 1]) for row in range(0, 60, 2)):
            begun.append(number)
            yield prompts

    answers = OverlappingBatches(engine())(coming(), SAMPLING, keep_going=True)
    next(answers)
    assert begun == list(range(1 + BATCHES_AHEAD))
    assert len(list(answers)) == 29


def test_prompts_that_are_refused_are_rows_with_an_error_and_cost_the_others_nothing() -> None:
    made = engine(refused=frozenset({2, 8, 9, 10, 11}))
    done = run(made)
    assert [[one.prompt.row_id for one in found.failed] for found in done] == [[2], [], [8, 9, 10, 11], [], [], []]
    assert done[0].failed[0].error == "row 2 is too long"
    assert done[2].rollouts is None and done[2].engine_answers
    assert "generate" not in made.calls
    good = [batch([0, 1, 3]), *BATCHES[1:2], *BATCHES[3:]]
    expected = BatchAfterBatch(engine())(good, SAMPLING, keep_going=True)
    assert [contents(found) for found in done if found.rollouts is not None] == list(map(contents, expected))


def test_without_keep_going_the_first_fault_raises_and_nothing_is_left_running() -> None:
    for made in (engine(refused=frozenset({6})), engine(breaks_at=frozenset({6}))):
        with pytest.raises((ModelError, RuntimeError), match=r"row 6|CUDA"):
            run(made, keep_going=False)
        assert not made.has_work


def test_batches_before_a_prompt_that_ends_the_run_are_not_lost() -> None:
    made = engine(refused=frozenset({10}))
    answers = OverlappingBatches(made)(BATCHES, SAMPLING, keep_going=False)
    expected = list(BatchAfterBatch(engine())(BATCHES[:2], SAMPLING, keep_going=False))
    assert [contents(next(answers)) for _ in range(2)] == list(map(contents, expected))
    with pytest.raises(ModelError, match="row 10"):
        next(answers)
    assert not made.has_work


def test_what_was_answered_before_says_that_a_batch_of_bad_prompts_is_no_fault_of_the_engine() -> None:
    made = engine(refused=frozenset({4, 5, 6, 7}))
    (done,) = OverlappingBatches(made, proven=batch([1]))([BATCHES[1]], SAMPLING, keep_going=True)
    assert done.rollouts is None and done.engine_answers
    (done,) = OverlappingBatches(made)([BATCHES[1]], SAMPLING, keep_going=True)
    assert not done.engine_answers


class CannotTake(Engine):
    """Fails, and not for the prompt's sake, when it is given the first row of the second batch."""

    def submit(self, request: CompletionRequest) -> None:
        if request.row_id == 4:
            raise RuntimeError("no memory")
        super().submit(request)


def test_a_batch_that_could_not_be_asked_whole_loses_no_row() -> None:
    done = run(CannotTake(FakeTokenizer(), answer=answer))
    assert list(map(contents, done)) == list(
        map(contents, BatchAfterBatch(engine())(BATCHES, SAMPLING, keep_going=True))
    )


def test_a_batch_that_is_whole_is_not_asked_again_when_a_step_fails_later() -> None:
    made = engine(breaks_at=frozenset({2}))
    batches = [
        batch([0, 1]),
        batch([18, 19]),
        batch([20, 21]),
        batch([2, 3]),
    ]  # the second one is done before the first
    done = list(OverlappingBatches(made)(batches, SAMPLING, keep_going=True))
    assert [[one.prompt.row_id for one in found.failed] for found in done] == [[], [], [], [2]]
    good = [batch([0, 1]), batch([18, 19]), batch([20, 21]), batch([3])]
    assert list(map(contents, done)) == list(map(contents, BatchAfterBatch(engine())(good, SAMPLING, keep_going=True)))
    assert made.asked_apart.isdisjoint({18, 19})


@dataclass
class Loses(Engine):
    """Forgets a request without a word."""

    def step(self) -> Sequence[CompletionChunk]:
        self._live.pop(next((name for name in self._live if name.startswith("row 9,")), ""), None)
        return super().step()


def test_requests_that_an_engine_has_lost_are_not_waited_for() -> None:
    with pytest.raises(ValueError, match="has lost 2 of the requests"):
        run(Loses(FakeTokenizer(), answer=answer), [batch([9])], keep_going=False)
    assert len(run(Loses(FakeTokenizer(), answer=answer))) == len(BATCHES)


class Aborts(Engine):
    def step(self) -> Sequence[CompletionChunk]:
        chunks = super().step()
        return [replace(chunk, token_ids=(), log_probs=(), finish_reason="abort") for chunk in chunks]


def test_an_answer_without_tokens_is_none() -> None:
    with pytest.raises(ValueError, match=r"an answer without tokens \(row 0, number 1\)"):
        run(Aborts(FakeTokenizer(), answer=answer), keep_going=False)


def test_a_row_that_breaks_a_step_is_found_and_the_rest_is_answered_as_without_it() -> None:
    made = engine(breaks_at=frozenset({9}))
    done = run(made)
    assert [[one.prompt.row_id for one in found.failed] for found in done] == [[], [], [9], [], [], []]
    assert done[2].failed[0].error == "RuntimeError: CUDA error: device-side assert triggered"
    good = [*BATCHES[:2], batch([8, 10, 11]), *BATCHES[3:]]
    assert list(map(contents, done)) == list(map(contents, BatchAfterBatch(engine())(good, SAMPLING, keep_going=True)))
    assert len(made.steps) > made.calls.count("generate")  # the batches after those in progress overlap again


def test_an_engine_that_breaks_for_good_ends_the_run_and_no_row_is_blamed() -> None:
    answers = OverlappingBatches(engine(breaks_at=frozenset({22}), breaks_for_good=True))(
        BATCHES, SAMPLING, keep_going=True
    )
    assert next(answers).failed == ()
    with pytest.raises(RolloutError, match="the rollout engine is broken: it fails at row"):
        list(answers)


class WithoutLogProbs(Engine):
    def step(self) -> Sequence[CompletionChunk]:
        return [replace(chunk, log_probs=()) for chunk in super().step()]


class NotFinite(Engine):
    def step(self) -> Sequence[CompletionChunk]:
        return [replace(chunk, log_probs=(float("nan"),)) for chunk in super().step()]


def test_an_engine_may_give_no_log_probs() -> None:
    done = run(WithoutLogProbs(FakeTokenizer(), answer=answer))
    assert all(found.rollouts is not None and found.rollouts.rollout_log_probs is None for found in done)


def test_log_probs_that_are_not_finite_are_no_answers() -> None:
    with pytest.raises(ModelError, match="non-finite logits"):
        run(NotFinite(FakeTokenizer(), answer=answer), keep_going=False)
    made = NotFinite(FakeTokenizer(), answer=answer)
    assert len(run(made)) == len(BATCHES)
    assert "generate" in made.calls


def test_who_stops_listening_leaves_no_work_behind() -> None:
    made = engine()
    answers = OverlappingBatches(made)(BATCHES, SAMPLING, keep_going=True)
    next(answers)
    assert made.has_work
    answers.close()  # type: ignore[attr-defined]
    assert not made.has_work


@pytest.mark.parametrize("keep_going", [True, False])
def test_batches_that_cannot_be_had_are_no_fault_of_the_engine(keep_going: bool) -> None:
    def until_a_fault() -> Iterator[PromptBatch]:
        yield from BATCHES[:3]
        raise OSError("the disk is gone")

    made = engine()
    done: list[AnsweredBatch] = []
    with pytest.raises(OSError, match="the disk is gone"):
        for one in OverlappingBatches(made)(until_a_fault(), SAMPLING, keep_going=keep_going):
            done.append(one)  # noqa: PERF402 - what came before the fault counts
    assert list(map(contents, done)) == list(map(contents, run(engine(), BATCHES[:3])))
    assert made.asked_apart == set()
    assert not made.has_work
