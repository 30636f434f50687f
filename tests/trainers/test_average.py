from __future__ import annotations

import math

import pytest

from rlkit.trainers.average import Average


def combined(name, *steps):
    """`steps`: (value, tokens) of each optimizer step."""
    average = Average()
    for value, tokens in steps:
        average.add({name: value}, tokens=tokens)
    return average.result()[name]


def test_means_over_tokens_are_weighted_by_them():
    assert combined("actor/kl_to_old", (1.0, 30), (5.0, 10)) == 2.0


def test_the_mean_over_any_mini_batches_is_that_over_all_tokens():
    clipped = [1.0, 0.0, 0.0, 1.0, 1.0, 0.0]
    for split in ([6], [1, 5], [2, 2, 2], [4, 1, 1]):
        steps, start = [], 0
        for size in split:
            steps.append((sum(clipped[start : start + size]) / size, size))
            start += size
        assert combined("actor/clip_fraction", *steps) == pytest.approx(0.5)


@pytest.mark.parametrize(("name", "expected"), [("actor/ratio_max", 7.0), ("actor/ratio_min", 2.0)])
def test_extremes_stay_extremes(name, expected):
    assert combined(name, (2.0, 1), (7.0, 1), (3.0, 98)) == expected


@pytest.mark.parametrize("name", ["actor/skipped_steps", "critic/skipped_steps", "actor/lr"])
def test_counts_and_settings_are_the_newest(name):
    assert combined(name, (1.0, 5), (2.0, 5), (4.0, 5)) == 4.0


def test_the_gradient_norm_is_a_mean_over_steps_whatever_their_tokens():
    assert combined("actor/grad_norm", (1.0, 100), (3.0, 1)) == 2.0


def test_a_skipped_step_does_not_hide_the_norms_of_the_others():
    assert combined("actor/grad_norm", (1.0, 5), (math.nan, 5), (3.0, 5), (math.inf, 5)) == 2.0
    assert math.isnan(combined("actor/grad_norm", (math.nan, 5)))


def test_steps_that_lack_a_metric_or_tokens_do_not_count_in_it():
    average = Average()
    average.add({"actor/entropy": 1.0}, tokens=4)
    average.add({"actor/entropy": 9.0, "actor/kl_loss": 2.0}, tokens=0)
    assert average.result() == {"actor/entropy": 1.0, "actor/kl_loss": 2.0}
    assert Average().result() == {}
