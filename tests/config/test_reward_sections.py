"""Reward sections: shaping belongs to training, and what does not go together is refused in one line."""

from __future__ import annotations

import pytest

from rlkit.config.load import load_config
from rlkit.errors import ConfigError

LIMIT = "rollout.max_response_tokens=64"


def test_shaping_is_off_by_default():
    assert not load_config("ppo", environ={}).config.reward.shapes_scores


@pytest.mark.parametrize(
    "assignments",
    [
        ["reward.clip=[-1, 1]"],
        ["reward.normalise=running"],
        ["reward.overlong_buffer_tokens=64", "reward.overlong_penalty=1", LIMIT],
    ],
)
def test_each_setting_switches_it_on_and_evaluation_has_none_of_them(assignments):
    assert load_config("ppo", assignments=assignments, environ={}).config.reward.shapes_scores
    with pytest.raises(ConfigError, match="unknown key reward"):
        load_config("eval", assignments=assignments[:1], environ={})


@pytest.mark.parametrize(
    ("assignments", "message"),
    [
        (["reward.clip=[1.0]"], r"reward\.clip = \[1\.0\]: give the lowest and the highest score"),
        (["reward.clip=[1.0, 1.0]"], r"reward\.clip = \[1\.0, 1\.0\]: give the lowest"),
        (["reward.overlong_penalty=1"], "overlong_buffer_tokens = 0 and .* work together only"),
        (["reward.overlong_buffer_tokens=8"], "overlong_penalty = 0 work together only"),
        (
            ["reward.overlong_buffer_tokens=65", "reward.overlong_penalty=1", LIMIT],
            r"overlong_buffer_tokens = 65 is more than an answer may have: rollout\.max_response_tokens is 64",
        ),
    ],
)
def test_what_cannot_work_is_refused_in_one_line(assignments, message):
    with pytest.raises(ConfigError, match=message) as caught:
        load_config("ppo", assignments=assignments, environ={})
    assert "\n" not in str(caught.value)
