"""The PPO loop in conversations with an environment, on fakes."""

from __future__ import annotations

from pathlib import Path

import pytest

from rlkit.config.reward_sections import RewardSection
from rlkit.data.turns import TurnRenderer
from rlkit.protocols import EnvironmentStep
from rlkit.rewards.scorer import build_scorer
from rlkit.rollout.conversations import ConversationCollector, ConversationLimits
from rlkit.rollout.environments import EnvironmentMaker
from rlkit.rollout.foreign_calls import ForeignCalls
from rlkit.testing.fakes import FakeTokenizer, fake_prompts
from rlkit.trainers.conversation_metrics import conversation_metrics
from rlkit.trainers.experience import AdvantageSettings
from rlkit.trainers.validation import Validator
from rlkit.types import Prompt, Ragged, Rollouts, SamplingParams
from rlkit.types.conversation import Conversation


class TalkingTokenizer(FakeTokenizer):
    """Renders chats, and has a token for whatever is no word."""

    chat_template = "words"

    def encode(self, text, *, add_special_tokens=True):
        return [self.words.index(word) if word in self.words else 9 for word in text.split()]


class Twice:
    """Hears two words, and likes the right one."""

    def __init__(self):
        self.heard = 0

    def reset(self, prompt: Prompt):
        return f"question {prompt.row_id}"

    def step(self, message):
        self.heard += 1
        return EnvironmentStep("again", float(message["content"] == "right"), self.heard == 2)


@pytest.fixture
def collector() -> ConversationCollector:
    calls = ForeignCalls(5.0)
    limits = ConversationLimits(turns=4, turn_tokens=0, tool_tokens=8, prompt_tokens=8, context=64)
    return ConversationCollector(
        TurnRenderer(TalkingTokenizer()), limits, calls, environment=EnvironmentMaker("twice", Twice, calls)
    )


@pytest.fixture
def parts(collector):
    scorer = build_scorer(RewardSection(), has_environment=True)
    sampling = SamplingParams(max_tokens=12, samples=4)
    return {"collector": collector, "tokenizer": TalkingTokenizer(), "scorer": scorer, "sampling": sampling}


@pytest.mark.parametrize("estimator", ["gae", "grpo", "remax", "gdpo"])
def test_it_learns_what_the_environment_rewards(build_loop, parts, estimator):
    if estimator == "gdpo":
        made = build_loop(estimator=estimator).trainer.parts.advantages
        parts["advantages"] = AdvantageSettings(made.estimator, made.kl_estimator, {"environment": 1.0})
    loop = build_loop(estimator=estimator, parts=parts, steps=6).fit()
    assert loop.actor.parameter.item() > 0.3
    first, last = loop.recorder.metrics[1], loop.recorder.metrics[6]
    assert last["reward/mean"] > first["reward/mean"]
    assert first["reward/part/environment"] == first["reward/mean"]
    assert (first["conversation/turns_mean"], first["conversation/turns_max"]) == (2.0, 2.0)


def test_with_the_other_reward_it_learns_the_other_word(build_loop, parts, monkeypatch):
    monkeypatch.setattr(
        Twice, "step", lambda self, message: EnvironmentStep("", -float(message["content"] == "right"), True)
    )
    assert build_loop(estimator="grpo", parts=parts, steps=6).fit().actor.parameter.item() < -0.3


def test_nothing_between_turns_is_learned_from(build_loop, parts):
    loop = build_loop(estimator="gae", parts=parts, steps=1)
    experiences = []
    loop.trainer.events.rollouts_ready = lambda step, experience, responses, rewards: experiences.append(experience)
    loop.fit()
    (experience,) = experiences
    mask, ids = experience.loss_mask.values, experience.rollouts.response_ids.values
    assert int((~mask).sum()) == 32 and set(ids[~mask].tolist()) == {9}
    assert experience.advantages.values[~mask].abs().max() == 0
    assert experience.rollouts.rollout_log_probs.values[~mask].abs().max() == 0


def test_a_turn_is_credited_with_its_own_reward(build_loop, parts, monkeypatch):
    """Without a critic's help: returns of reinforce++ with a discount of 1 are the rewards still to come."""

    def step(self, message):
        self.heard += 1
        return EnvironmentStep("again", (1.0, 10.0)[self.heard - 1], self.heard == 2)

    monkeypatch.setattr(Twice, "step", step)
    loop = build_loop(estimator="reinforce_plus_plus", parts=parts, steps=1)
    experiences = []
    loop.trainer.events.rollouts_ready = lambda step, experience, responses, rewards: experiences.append(experience)
    loop.fit()
    row = next(iter(experiences[0].advantages.rows())).tolist()
    mask = next(iter(experiences[0].loss_mask.rows())).tolist()
    sampled = [value for value, taken in zip(row, mask, strict=True) if taken]
    # Whitened, so only their order is known: 11 to come in the first turn, 10 in the second.
    assert sampled[0] == sampled[1] > sampled[2] == sampled[3]


def test_validation_talks_and_scores_in_the_same_way(build_loop, parts, collector, tmp_path: Path):
    validator = Validator(
        fake_prompts(3),
        SamplingParams(max_tokens=12, temperature=0.0),
        parts["tokenizer"],
        parts["scorer"],
        tmp_path,
        collector,
    )
    engine = build_loop(parts=parts).engine
    engine.log_odds = 3.0
    metrics = validator.run(engine, 1)
    assert (metrics["validation/score"], metrics["validation/part/environment"]) == (2.0, 2.0)
    assert '"turn_rewards": [1.0, 1.0]' in (tmp_path / "step_000001.jsonl").read_text()


def test_conversations_in_numbers():
    def talk(end, turns, **counts):
        said = {"role": "assistant", "content": ""}
        return Conversation((), (said,) * turns, end, **counts)

    import torch

    ids = Ragged.from_rows([[1, 2, 3, 4], [5], [6], [7, 8]], dtype=torch.int64)
    rollouts = Rollouts(
        prompt_ids=ids,
        response_ids=ids,
        response_mask=ids.with_values(ids.values != 2),
        rollout_log_probs=None,
        group_ids=torch.arange(4),
        finish_reasons=("stop",) * 4,
        policy_version=0,
        prompts=fake_prompts(4).prompts,
        conversations=(
            talk("answer", 3, tool_calls=4, tool_errors=1, cut_results=2),
            talk("turns", 2, tool_calls=4, tool_errors=1),
            talk("tokens", 1),
            talk("done", 2),
        ),
    )
    assert conversation_metrics(rollouts) == {
        "conversation/turns_mean": 2.0,
        "conversation/turns_max": 3.0,
        "conversation/sampled_fraction": 7 / 8,
        "conversation/turn_limit_fraction": 0.25,
        "conversation/token_limit_fraction": 0.25,
        "conversation/tool_calls": 2.0,
        "conversation/tool_errors": 2.0,
        "conversation/tool_error_fraction": 0.25,
        "conversation/cut_results": 2.0,
    }
