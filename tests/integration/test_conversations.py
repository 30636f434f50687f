"""Conversations with the real engine and the real trainer: the same tokens, the same log-probs, and something learned."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace
from itertools import groupby
from operator import itemgetter
from pathlib import Path

import pytest
import torch

from rlkit.config.load import load_config
from rlkit.errors import DataError
from rlkit.pipelines.assembly import build_engine, load_prompt_batch, locate
from rlkit.pipelines.conversations import build_collector, build_partners
from rlkit.pipelines.ppo import build_roles, run_ppo
from rlkit.pipelines.training_place import TrainingPlace
from rlkit.testing.tiny_model import tiny_model
from rlkit.types import Rollouts, SamplingParams

pytestmark = pytest.mark.slow

TOLERANCE = 1e-4
"""Largest difference of a token's log-probs between two correct implementations in float32, nats."""

TOOLS = '''
from rlkit.protocols import EnvironmentStep
from rlkit.rollout.tool_calls import ParsedMessage, ToolCall

class Talk:
    """Three turns whatever is said."""

    def __init__(self):
        self.turns = 0

    def reset(self, prompt):
        return prompt.messages

    def step(self, message):
        self.turns += 1
        return EnvironmentStep(f"{self.turns}+{self.turns}=?", self.turns / 10, self.turns == 3)

def roll() -> int:
    """Roll the dice."""
    return 7

class Hash:
    """A # is a call."""

    def parse(self, text):
        return ParsedMessage(text.replace("#", ""), (ToolCall("roll", {}),) if "#" in text else ())

def score(response, conversation):
    called = any(message["role"] == "tool" for message in conversation)
    return {"score": 0.5 * called + 0.5 * (called and "7" in response), "called": called}
'''

SHORT = ("rollout.max_response_tokens=80",)

TEMPLATES = {
    "plain": "{% for m in messages %}<|{{ 'user' if m.role == 'tool' else m.role }}|>{{ m.content }}<|end|>{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}",
    # Of an earlier turn only the last letter is shown, and the last turn has something in front of it.
    "rewriting": "{% for m in messages %}<|{{ 'user' if m.role == 'tool' else m.role }}|>"
    "{% if m.role == 'assistant' %}{{ '##' + m.content if loop.last else m.content[-1:] }}{% else %}{{ m.content }}"
    "{% endif %}<|end|>{% endfor %}{% if add_generation_prompt %}<|assistant|>{% endif %}",
}


@pytest.fixture
def project(tmp_path: Path, monkeypatch):
    """Function: a config of `ppo.toml` in a folder with prompts, tools and templates."""
    monkeypatch.chdir(tmp_path)
    rows = [{"question": f"{n}-{n}=?", "answer": "0"} for n in (*range(8), 77)]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "talk.py").write_text(TOOLS)
    for name, template in TEMPLATES.items():
        (tmp_path / f"{name}.jinja").write_text(template)
    (tmp_path / "ppo.toml").write_text(
        f"[model]\npath = '{tiny_model()}'\n[data]\ntrain = ['rows.jsonl']\nmax_prompt_tokens = 24\n"
        f"[run]\noutput = '{tmp_path}'\nname = 'run'\n"
    )

    def configure(template: str, *assignments: str):
        where = f"model.chat_template={tmp_path / template}.jinja"
        return load_config("ppo", tmp_path / "ppo.toml", assignments=[where, *assignments], environ={})

    return configure


class Listening:
    """An engine that remembers what it was asked and what it said, by prompt."""

    def __init__(self, engine):
        self.engine = engine
        self.heard = []

    def generate(self, prompts, sampling):
        rollouts = self.engine.generate(prompts, sampling)
        answers = [row.tolist() for row in rollouts.response_ids.rows()]
        self.heard += zip(
            [row.tolist() for row in rollouts.prompt_ids.rows()], answers, rollouts.finish_reasons, strict=True
        )
        return rollouts


def turns_of(rollouts: Rollouts) -> Counter[tuple[tuple[int, ...], tuple[int, ...]]]:
    """Every stretch of tokens in the mask, behind everything that stands before it in its row."""
    turns = Counter()
    rows = zip(rollouts.prompt_ids.rows(), rollouts.response_ids.rows(), rollouts.response_mask.rows(), strict=True)
    for prompt_ids, response_ids, mask in rows:
        tokens = prompt_ids.tolist()
        for sampled, stretch in groupby(zip(mask.tolist(), response_ids.tolist(), strict=True), key=itemgetter(0)):
            ids = [token for _, token in stretch]
            if sampled:
                turns[tuple(tokens), tuple(ids)] += 1
            tokens += ids
    return turns


@pytest.mark.parametrize("template", TEMPLATES)
def test_three_turns_have_the_tokens_and_the_log_probs_of_the_engine(project, template):
    keys = ("rollout.environment=talk.py:Talk", "rollout.max_response_tokens=80", "rollout.max_turn_tokens=7")
    config = project(template, *keys).config
    located = locate(config.model)
    prompts = load_prompt_batch(config.data, config.data.train, located, name="data")
    engine = Listening(build_engine(config.rollout, config.model, config.run, located, "cpu", name="rollout"))
    collector = build_collector(
        config.rollout, build_partners(config.rollout), located.tokenizer, max_prompt_tokens=24, context_length=128
    )
    sampling = SamplingParams(max_tokens=80, samples=4, seed=1, stop=("a", "7"))
    rollouts = collector(engine, prompts, sampling)

    assert {reason for _, _, reason in engine.heard} == {"stop", "length"}
    heard = Counter((tuple(prompt), tuple(answer)) for prompt, answer, _ in engine.heard)
    assert turns_of(rollouts) == heard and heard.total() == 3 * len(rollouts)

    actor = build_roles(config, located, TrainingPlace(config, device="cpu").backend(), "cpu").actor
    trained = actor.compute_log_probs(rollouts, temperature=1.0).log_probs.values
    mask = rollouts.response_mask.values
    difference = (trained - rollouts.rollout_log_probs.values)[mask]
    assert difference.abs().max() < TOLERANCE
    assert trained[mask].min() < -1
    assert rollouts.rollout_log_probs.values[~mask].abs().max() == 0
    # The check would see it if only one token between the turns were another one.
    shifted = rollouts.response_ids.values.clone()
    shifted[~mask] = (shifted[~mask] + 1) % 20
    other = replace(rollouts, response_ids=rollouts.response_ids.with_values(shifted))
    moved = actor.compute_log_probs(other, temperature=1.0).log_probs.values - trained
    assert moved[mask].abs().max() > 1


def test_what_a_conversation_samples_does_not_depend_on_the_batch(project):
    config = project("plain", "rollout.environment=talk.py:Talk", "rollout.max_turn_tokens=7").config
    located = locate(config.model)
    prompts = load_prompt_batch(config.data, config.data.train, located, name="data")
    engine = build_engine(config.rollout, config.model, config.run, located, "cpu", name="rollout")
    collector = build_collector(
        config.rollout, build_partners(config.rollout), located.tokenizer, max_prompt_tokens=24, context_length=128
    )
    sampling = SamplingParams(max_tokens=80, samples=2, seed=1)
    together = collector(engine, prompts, sampling)
    alone = collector(engine, prompts.select([5, 2]), sampling)
    expected = together.select([10, 11, 4, 5])
    assert torch.equal(alone.response_ids.values, expected.response_ids.values)
    assert len(set(map(tuple, (row.tolist() for row in together.response_ids.rows())))) == len(together)


def run_metrics(folder: Path) -> list[dict[str, float]]:
    entries = [json.loads(line) for line in (folder / "run" / "metrics.jsonl").read_text().splitlines()]
    return [entry["metrics"] for entry in entries if entry["event"] == "step"]


def test_the_policy_learns_to_call_a_tool_and_to_use_its_result(project, tmp_path):
    run_ppo(
        project(
            "rewriting",
            *(
                "rollout.tools=['talk.py:roll']",
                "rollout.tool_format=talk.py:Hash",
                "reward.functions=['talk.py:score']",
            ),
            *("rollout.max_response_tokens=24", "rollout.max_turn_tokens=3", "rollout.max_turns=2"),
            *("rollout.prompts_per_step=8", "rollout.samples_per_prompt=16", "algorithm.advantage=grpo"),
            *("actor.lr=1e-2", "trainer.steps=30", "data.validation=['rows.jsonl']"),
        )
    )
    steps = run_metrics(tmp_path)
    first, last = steps[0], steps[-1]
    assert first["reward/mean"] < 0.25 and last["reward/mean"] > 0.8, (first["reward/mean"], last["reward/mean"])
    assert last["conversation/tool_calls"] > 0.9 and first["conversation/tool_calls"] < 0.5
    assert 0 < last["conversation/sampled_fraction"] < 0.9
    assert max(abs(step["rollout/log_prob_difference_max"]) for step in steps) < TOLERANCE


def test_a_template_without_tools_is_refused_before_any_model_is_loaded(project, monkeypatch):
    monkeypatch.setattr("rlkit.pipelines.ppo.build_roles", None)
    config = project(
        "plain", "rollout.tools=['talk.py:roll']", "reward.functions=exact_match", *SHORT, "model.chat_template="
    )
    with pytest.raises(
        DataError, match=r"role must be system, user or assistant, got tool; set model\.chat_template"
    ) as caught:
        run_ppo(config)
    assert "\n" not in str(caught.value)
