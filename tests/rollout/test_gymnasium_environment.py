"""With the real library."""

from __future__ import annotations

import pytest

gymnasium = pytest.importorskip("gymnasium")

from rlkit.errors import ConfigError, MissingRequirementError  # noqa: E402
from rlkit.rollout.environments import load_environment  # noqa: E402
from rlkit.rollout.foreign_calls import ForeignCalls  # noqa: E402
from rlkit.rollout.gymnasium_environment import GymnasiumEnvironment  # noqa: E402
from rlkit.types import Prompt  # noqa: E402

LAKE = {"id": "FrozenLake-v1", "actions": ["left", "down", "right", "up"], "make_options": {"is_slippery": False}}
ASKED = Prompt(row_id=3, messages=({"role": "system", "content": "Be brave."}, {"role": "user", "content": "Walk."}))


def said(text):
    return {"role": "assistant", "content": text}


def test_the_lake_is_shown_as_text_below_the_prompt():
    system, user = GymnasiumEnvironment(**LAKE).reset(ASKED)
    assert system == ASKED.messages[0]
    assert user["content"] == "Walk.\n\n[S]FFF\nFHFH\nFFFH\nHFFG\nActions: left, down, right, up"


def test_it_can_be_walked_to_the_goal():
    lake = GymnasiumEnvironment(**LAKE)
    lake.reset(ASKED)
    steps = [lake.step(said(f"I go {way}.")) for way in ("down", "Down", "right", "right", "down", "right")]
    assert "[F]HFH" in steps[0].messages
    assert [step.reward for step in steps] == [0.0] * 5 + [1.0]
    assert [step.done for step in steps] == [False] * 5 + [True]
    lake.close()


def test_the_last_action_behind_the_thinking_counts_and_only_as_a_word():
    lake = GymnasiumEnvironment(**LAKE)
    lake.reset(ASKED)
    assert "S[F]FF" in lake.step(said("<think>up? or down</think>not up but RIGHT")).messages
    assert lake.step(said("downward")).messages == "No action understood.\nActions: left, down, right, up"
    fallen = lake.step(said("down"))
    assert (fallen.done, fallen.reward, fallen.messages) == (True, 0.0, "")


def test_a_message_without_an_action_changes_nothing_and_costs_what_it_is_told_to():
    lake = GymnasiumEnvironment(**LAKE, invalid_reward=-0.5)
    lake.reset(ASKED)
    step = lake.step(said("hm"))
    assert (step.reward, step.done) == (-0.5, False)
    assert "[F]HFH" in lake.step(said("down")).messages


def test_the_same_row_begins_alike_and_another_seed_differently():
    def cards(**extra):
        prompt = Prompt(row_id=1, text="Play.", extra=extra)
        return GymnasiumEnvironment("Blackjack-v1", actions=["stand", "hit"]).reset(prompt)

    assert cards() == cards() == cards(seed=1)
    assert len({str(cards(seed=seed)) for seed in range(20)}) > 5


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"id": "FrozenPond-v1"}, "gymnasium cannot make 'FrozenPond-v1'"),
        ({"id": "Pendulum-v1"}, "only discrete ones and texts can be said"),
        ({"id": "FrozenLake-v1", "actions": ["left"]}, "has 4 actions, but 1 are named"),
        ({"id": "FrozenLake-v1", "make_options": {"size": 3}}, "cannot make"),
    ],
)
def test_what_cannot_be_played_is_refused_before_the_run(options, reason):
    with pytest.raises(ConfigError, match=reason) as caught:
        load_environment("rlkit.rollout.gymnasium_environment:GymnasiumEnvironment", options, ForeignCalls(60.0))
    assert "\n" not in str(caught.value)


def test_without_the_library_it_says_how_to_get_it(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "gymnasium", None)
    with pytest.raises(MissingRequirementError, match=r"pip install 'rlkit-llm\[gym\]'"):
        GymnasiumEnvironment(**LAKE)
