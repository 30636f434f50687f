"""The scheduler on a fake model whose next token follows from the row's content, so that every mix-up of rows shows."""

from __future__ import annotations

from collections.abc import Hashable, Sequence

import pytest
import torch
from rlkit_hf.rows import Row
from rlkit_hf.sampling import answer_keys
from rlkit_hf.scheduler import NonFiniteLogitsError, Scheduler

from rlkit.types import SamplingParams

VOCABULARY, END = 11, 0


class CountingForward:
    """Logits prefer (last token + first token) mod VOCABULARY; remembers how it was used. A row takes what it holds."""

    max_prefill_tokens = 1000

    def __init__(self, budget_tokens: int, *, accepts_more: bool = True) -> None:
        self.accepts_more = accepts_more
        self.budget_tokens = budget_tokens
        self.held: dict[Hashable, list[int]] = {}
        self.entered: list[Hashable] = []
        self.batches: list[int] = []
        self.tokens: list[int] = []
        self.prefills = 0
        self.adds_with_rows = 0

    @property
    def allocated_tokens(self) -> int:
        return sum(map(len, self.held.values()))

    def capacity_for(self, tokens: int) -> int:
        return tokens

    def make_room(self, *, force: bool = False) -> bool:
        return force or self.allocated_tokens + len(self.held) <= self.budget_tokens

    def order(self) -> Sequence[Hashable]:
        return list(reversed(self.held))  # an order of its own

    def enter(self, token_ids: Sequence[int], rows: Sequence[Hashable], *, force: bool = False) -> bool:
        if not force and self.allocated_tokens + len(token_ids) * len(rows) > self.budget_tokens:
            return False
        self.prefills += 1
        self.adds_with_rows += len(self.held) > len(self.entered)
        self.held.update({row: list(token_ids) for row in rows})
        self.entered += rows
        return True

    def run(self, tokens: Sequence[int]) -> torch.Tensor:
        present = [row for row in self.order() if row not in self.entered]
        for row, token in zip(present, tokens, strict=True):
            self.held[row].append(token)
        scores = torch.zeros(len(self.held), VOCABULARY)
        for number, row in enumerate([*present, *self.entered]):
            held = self.held[row]
            scores[number, (held[0] + held[-1]) % VOCABULARY] = 9.0
        self.entered = []
        self.batches.append(len(self.held))
        self.tokens.append(self.allocated_tokens)
        return scores

    def remove(self, rows: Sequence[Hashable]) -> None:
        for row in rows:
            del self.held[row]

    def clear(self) -> None:
        self.held, self.entered = {}, []


PROMPTS = [[3, 1, 4], [1, 5], [9, 2, 6, 5, 3], [5], [8, 9], [7, 9, 3], [2, 3], [8, 4, 6]]
GREEDY = SamplingParams(max_tokens=6, temperature=0.0)


def expected_answer(prompt: Sequence[int], max_tokens: int) -> list[int]:
    answer: list[int] = []
    last = prompt[-1]
    while len(answer) < max_tokens and (not answer or answer[-1] != END):
        last = (prompt[0] + last) % VOCABULARY
        answer.append(last)
    return answer


def make_rows(prompt: Sequence[int], count: int = 1, sampling: SamplingParams = GREEDY) -> list[Row]:
    keys = answer_keys(sampling.seed, [prompt[0]] * count, range(count)).tolist()
    return [Row(prompt, sampling, key, frozenset([END])) for key in keys]


def scheduler_on(forward: CountingForward, *, max_rows: int = 100) -> Scheduler:
    return Scheduler(
        forward,
        vocabulary=VOCABULARY,
        max_rows=max_rows,
        budget_tokens=forward.budget_tokens,
        device=torch.device("cpu"),
    )


def finish(scheduler: Scheduler) -> None:
    while scheduler.has_work:
        scheduler.step()


@pytest.mark.parametrize("accepts_more", [True, False])
@pytest.mark.parametrize("budget", [1, 20, 40, 100, 10_000])
def test_every_answer_reaches_its_row_within_the_budget(accepts_more: bool, budget: int) -> None:
    samples = 3
    forward = CountingForward(budget, accepts_more=accepts_more)
    scheduler = scheduler_on(forward)
    groups = [make_rows(prompt, samples) for prompt in PROMPTS]
    for group in groups:
        scheduler.submit(group)
    finish(scheduler)
    for prompt, group in zip(PROMPTS, groups, strict=True):
        expected = expected_answer(prompt, 6)
        for row in group:
            assert row.token_ids == expected
            assert row.finish_reason == ("stop" if expected[-1] == END else "length")
            assert len(row.log_probs) == len(expected)
    longest = max(map(len, PROMPTS)) + 6
    assert max(forward.tokens) <= max(budget, longest)  # a row that is alone may exceed the budget
    assert not forward.held
    if budget == 10_000:
        assert forward.prefills == len(PROMPTS)  # each prompt once for all of its samples
    if budget == 40:
        assert (forward.adds_with_rows > 0) == accepts_more


def test_a_short_budget_puts_the_newest_rows_back_and_loses_nothing() -> None:
    # Answers of 8 tokens are foreseen, of 16 they become: both rows enter, and the budget runs short on the way.
    forward = CountingForward(24)
    scheduler = scheduler_on(forward)
    first, second = (
        make_rows(prompt, 1, SamplingParams(max_tokens=16, temperature=0.0))[0] for prompt in ([1, 1], [2, 2])
    )
    first.stop_ids = second.stop_ids = frozenset()
    scheduler.submit([first])
    scheduler.submit([second])
    order: list[Row] = []
    while scheduler.has_work:
        order += [row for row in scheduler.step() if row.finish_reason]
    assert scheduler.num_preemptions == 1
    assert order == [first, second]
    assert max(forward.tokens) <= 24
    assert second.token_ids == [(2 * step) % VOCABULARY for step in range(2, 18)]


def test_a_prompt_longer_than_one_pass_takes_does_not_wait_for_the_others_to_end() -> None:
    forward = CountingForward(10_000)
    forward.max_prefill_tokens = 2
    scheduler = scheduler_on(forward)
    for number in range(1, 4):
        scheduler.submit(make_rows([number, 2, 3], 1))
    scheduler.step()
    assert scheduler.num_live == 1
    scheduler.step()
    assert scheduler.num_live == 2


def test_no_more_rows_than_allowed_are_in_progress() -> None:
    forward = CountingForward(10_000)
    scheduler = scheduler_on(forward, max_rows=5)
    for prompt in PROMPTS:
        scheduler.submit(make_rows(prompt, 3))
    finish(scheduler)
    assert max(forward.batches) == 5


def test_a_request_enters_beside_those_that_run() -> None:
    forward = CountingForward(10_000)
    scheduler = scheduler_on(forward)
    (early,), (late,) = make_rows([1, 1]), make_rows([2, 2])
    scheduler.submit([early])
    scheduler.step()
    scheduler.submit([late])
    assert set(scheduler.step()) == {early, late}
    finish(scheduler)
    assert (early.token_ids, late.token_ids) == (expected_answer([1, 1], 6), expected_answer([2, 2], 6))


def test_requests_for_one_prompt_that_come_one_by_one_are_prefilled_once() -> None:
    forward = CountingForward(10_000)
    scheduler = scheduler_on(forward)
    rows = [make_rows(prompt)[0] for prompt in ([3, 1], [3, 1], [3, 1], [5, 2], [5, 2])]
    for row in rows:
        scheduler.submit([row])
    scheduler.abort([rows[1]])
    finish(scheduler)
    assert forward.prefills == 2
    assert [row.token_ids for row in rows if row is not rows[1]] == [
        expected_answer(row.prompt_ids, 6) for row in rows if row is not rows[1]
    ]


def test_a_request_shares_no_prefill_with_one_that_began_or_asks_for_another_length() -> None:
    forward = CountingForward(10_000)
    scheduler = scheduler_on(forward, max_rows=1)
    rows = make_rows([3, 1]) + make_rows([3, 1], sampling=SamplingParams(max_tokens=3, temperature=0.0))
    for row in rows:
        scheduler.submit([row])
    scheduler.step()
    scheduler.release()
    rows += make_rows([3, 1], sampling=rows[1].sampling)
    scheduler.submit(rows[2:])
    finish(scheduler)
    assert [row.token_ids for row in rows] == [expected_answer([3, 1], count) for count in (6, 3, 3)]


def test_aborted_rows_leave_the_queue_and_the_batch() -> None:
    forward = CountingForward(10_000)
    scheduler = scheduler_on(forward, max_rows=2)
    rows = [make_rows([number, number])[0] for number in range(1, 5)]
    for row in rows:
        scheduler.submit([row])
    scheduler.step()
    scheduler.abort([rows[0], rows[3]])
    assert set(forward.held) == {rows[1]}
    finish(scheduler)
    assert [len(row.token_ids) for row in rows] == [1, 6, 6, 0]


def test_released_rows_go_on_where_they_were() -> None:
    forward = CountingForward(10_000)
    scheduler = scheduler_on(forward)
    rows = [make_rows([number, number])[0] for number in range(1, 5)]
    for row in rows:
        scheduler.submit([row])
    for _ in range(3):
        scheduler.step()
    scheduler.release()
    assert not forward.held and scheduler.num_live == 0 and scheduler.has_work
    finish(scheduler)
    assert [row.token_ids for row in rows] == [expected_answer(row.prompt_ids, 6) for row in rows]


def test_non_finite_logits_are_not_recorded() -> None:
    class Broken(CountingForward):
        def run(self, tokens: Sequence[int]) -> torch.Tensor:
            return super().run(tokens) * float("nan")

    scheduler = scheduler_on(Broken(100))
    (row,) = make_rows([1])
    scheduler.submit([row])
    with pytest.raises(NonFiniteLogitsError):
        scheduler.step()
    assert row.token_ids == []
