"""Rates are those of the run, however batches come out."""

from __future__ import annotations

from rlkit.generation.rates import WINDOW_BATCHES, AnswerRates


def test_of_one_batch_after_another_each_counts_since_the_one_before() -> None:
    now = 100.0
    rates = AnswerRates(lambda: now)
    now += 2
    rates.batch_done(answers=16, tokens=48)
    assert (rates.answers_per_s, rates.tokens_per_s) == (8.0, 24.0)
    now += 6
    rates.batch_done(answers=16, tokens=16)
    assert (rates.answers_per_s, rates.tokens_per_s) == (4.0, 8.0)


def test_batches_that_come_out_together_do_not_have_a_rate_of_their_own() -> None:
    now = 0.0
    rates = AnswerRates(lambda: now)
    found = []
    for number in range(24):
        now += 2 if number % 2 == 0 else 0
        rates.batch_done(answers=16, tokens=32)
        found.append(rates.answers_per_s)
    assert found[:4] == [8.0, 16.0, 12.0, 16.0]
    assert all(rate == 16.0 for rate in found[8:])


def test_what_was_long_ago_is_forgotten() -> None:
    now = 0.0
    rates = AnswerRates(lambda: now)
    now += 1000
    for _ in range(WINDOW_BATCHES + 1):
        now += 1
        rates.batch_done(answers=1, tokens=1)
    assert rates.answers_per_s == 1.0
