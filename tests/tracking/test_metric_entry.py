from __future__ import annotations

import pytest

from rlkit.tracking.metric_entry import MetricEntry, expression_of


def test_listed_alternatives_become_names_and_placeholders_stay():
    assert list(MetricEntry("value/<mean|max>", "", "").patterns) == ["value/mean", "value/max"]
    assert list(MetricEntry("a/<part>_<low|high>", "", "").patterns) == ["a/<part>_low", "a/<part>_high"]
    assert list(MetricEntry("reward/mean", "", "").patterns) == ["reward/mean"]


@pytest.mark.parametrize(
    ("pattern", "name", "described"),
    [
        ("reward/mean", "reward/mean", True),
        ("reward/mean", "reward/mean_of_all", False),
        ("reward/part/<part>", "reward/part/reward.py:score", True),
        ("reward/part/<part>", "reward/part/", False),
        ("validation/<source>/score", "validation/openai/gsm8k/score", True),
        ("validation/pass_at_<k>", "validation/pass_at_16", True),
        ("validation/pass_at_<k>", "validation/pass_at_16_low", False),
        ("validation/pass_at_<k>_<low|high>", "validation/pass_at_16_low", True),
        ("time/<rollout|reward>_s", "time/reward_s", True),
        ("time/<rollout|reward>_s", "time/other_s", False),
    ],
)
def test_which_names_an_entry_describes(pattern, name, described):
    assert MetricEntry(pattern, "", "").describes(name) is described


def test_a_dot_in_a_name_is_a_dot():
    assert expression_of("a/b.c") == r"a/b\.c"


def test_the_area_is_the_first_word():
    assert MetricEntry("reward/part/<part>", "", "").area == "reward"
