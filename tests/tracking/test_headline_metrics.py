from __future__ import annotations

import math

import pytest

from rlkit.tracking.headline_metrics import (
    HEADLINES,
    Headline,
    headlines,
    validation_line,
    write_count,
    write_seconds,
)


@pytest.mark.parametrize(
    ("value", "text"), [(0, "0"), (950.4, "950"), (1000, "1.0k"), (1234, "1.2k"), (3_400_000, "3.4M"), (2e9, "2.0G")]
)
def test_counts_are_short(value, text):
    assert write_count(value) == text


@pytest.mark.parametrize(
    ("seconds", "text"), [(0, "0:00"), (-3, "0:00"), (7.4, "0:07"), (754, "12:34"), (11109, "3:05:09"), (59.6, "1:00")]
)
def test_durations_read_as_clocks(seconds, text):
    assert write_seconds(seconds) == text


@pytest.mark.parametrize(
    ("form", "value", "text"),
    [
        (".3f", 0.12345, "0.123"),
        ("percent", 0.071, "7.1%"),
        ("count", 12345.0, "12.3k"),
        ("rate", 0.314159, "0.314"),
        ("rate", 45.23, "45.2"),
        ("rate", 4523.0, "4.5k"),
        (".3f", math.nan, "nan"),
        (".2f", -0.001, "0.00"),
        (".3f", -math.inf, "-inf"),
    ],
)
def test_each_form_writes_its_numbers(form, value, text):
    assert Headline("a/b", "label", form).write(value) == text


@pytest.mark.parametrize(
    ("form", "change", "text"),
    [
        (".3f", 0.0312, "+0.031"),
        (".3f", -0.5, "-0.500"),
        (".3f", 0.0001, ""),
        ("percent", -0.02, "-2.0%"),
        ("count", 0.2, ""),
    ],
)
def test_a_change_has_a_sign_and_one_too_small_to_be_seen_is_left_out(form, change, text):
    assert Headline("a/b", "label", form).write_change(change) == text


def test_only_what_the_step_has_is_shown_in_the_order_of_the_table():
    shown = headlines("ppo", {"actor/lr": 3e-4, "reward/mean": 0.25, "reward/part/format": 1.0})
    assert shown == [("reward", "0.250"), ("lr", "0.0003")]


def test_a_kind_without_headlines_shows_none():
    assert headlines("eval", {"reward/mean": 0.25}) == []


@pytest.mark.parametrize("kind", HEADLINES)
def test_no_metric_and_no_label_appears_twice(kind):
    for names in ([item.metric for item in HEADLINES[kind]], [item.label for item in HEADLINES[kind]]):
        assert len(names) == len(set(names))


class TestValidationLine:
    def test_a_score_comes_with_its_interval_and_its_prompts(self):
        metrics = {
            "validation/score": 0.625,
            "validation/score_low": 0.5951,
            "validation/score_high": 0.6539,
            "validation/prompts": 1000.0,
        }
        assert validation_line(metrics) == "score 0.625 (0.595 to 0.654) on 1,000 prompts"

    def test_several_answers_add_the_largest_k(self):
        several = {f"validation/{name}": 0.5 for name in ("pass_at_2", "pass_at_16_low", "maj_at_16", "a/pass_at_32")}
        metrics = {"validation/score": 0.25, "validation/pass_at_16": 0.75, **several}
        assert validation_line(metrics) == "score 0.250, pass@16 0.750, maj@16 0.500"

    def test_a_score_may_stand_alone(self):
        assert validation_line({"validation/score": 0.5}) == "score 0.500"

    def test_without_a_score_the_numbers_are_named(self):
        assert validation_line({"sft/validation_loss": 1.23456}) == "validation loss 1.2346"
