"""No setting is accepted and ignored: each key of the sections about learning changes what a run comes to.

A run is the real config, the real assembled parts and the real loop around a policy of one number. What it comes to is
the policy, the critic, and how many updates and answers it took, or the error that ended it.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import pytest
import torch

from rlkit.algos.aggregation import Denominators
from rlkit.cluster.weight_sync import DirectWeightSync
from rlkit.config.correction_presets import CORRECTION_PRESETS
from rlkit.config.keys import leaf_keys
from rlkit.config.load import load_config
from rlkit.config.runs import PPOConfig
from rlkit.data.order import EpochOrder
from rlkit.errors import RLKitError
from rlkit.pipelines.algorithms import check_algorithm, needs_of
from rlkit.pipelines.ppo import Roles, assemble, loop_settings
from rlkit.plugin.hooks import HookRelay
from rlkit.plugin.hookspecs import RunInfo
from rlkit.rewards.scorer import build_scorer
from rlkit.testing.fakes import (
    END,
    RIGHT,
    WRONG,
    FakeActor,
    FakeCritic,
    FakeEngine,
    FakeTokenizer,
    fake_prompts,
    log_probs_of,
)
from rlkit.tracking.checkpoint_writer import CheckpointWriter
from rlkit.tracking.checkpoints import CheckpointStore
from rlkit.trainers.ppo import PPOTrainer
from rlkit.trainers.ppo_state import PPOState, PromptStream
from rlkit.trainers.run_events import RunEvents
from rlkit.trainers.stop_signal import StopSignal
from rlkit.types import Ragged

SECTIONS = ("algorithm", "reward", "rollout_correction")
LONGEST = 5

REWARDS = """
import asyncio
import sys
import time
from collections import Counter

from rlkit.errors import TransientRewardError

asked, first_asked, running = Counter(), {}, Counter()

def right(response):
    words = response.split()
    return sum(word == "right" for word in words) / len(words)

def short(response, factor=1.0):
    return -factor * len(response.split())

def slow(response):
    time.sleep(0.002)
    return right(response)

def first(response):
    return float(response.startswith("right"))

def picky(response):
    if response.startswith("wrong"):
        raise ValueError("wrong")
    return 1.0

def in_a_worker(response):
    return right(response) * ("pytest" not in sys.modules)

def hungry(response):
    return right(response) + len(bytes(300_000_000)) * 0

async def crowded(response):
    running["now"] += 1
    await asyncio.sleep(0.002)
    running["now"] -= 1
    return float(running["now"])

def flaky(response):
    asked[response] += 1
    if asked[response] % 2:
        raise TransientRewardError("busy")
    return right(response)

def late(response):
    if time.monotonic() - first_asked.setdefault(response, time.monotonic()) < 1.0:
        raise TransientRewardError("not yet")
    return right(response)

def tired(response):
    asked["all"] += 1
    return right(response) / asked["all"]
"""

BASE = (
    "rollout.samples_per_prompt=4",
    "rollout.prompts_per_step=8",
    f"rollout.max_response_tokens={LONGEST}",
    "algorithm.mini_batch_samples=16",
    "trainer.steps=2",
    "run.seed=3",
)


class Case(NamedTuple):
    """Two runs that differ in one key; `both` is what they share besides `BASE`."""

    changed: str
    both: tuple[str, ...] = ()


GRPO, DR_GRPO = "algorithm.advantage=grpo", "algorithm.advantage=dr_grpo"
TOKEN_WEIGHTS = "rollout_correction.importance_weights=token"
ICEPOP = (TOKEN_WEIGHTS, "rollout_correction.outside=zero", "rollout_correction.weight_high=1.1")
BUFFER = ("reward.overlong_buffer_tokens=2", "reward.overlong_penalty=0.5")
CASES = {
    "algorithm.advantage": Case("grpo"),
    "algorithm.advantage_options": Case("{lam = 0.5}"),
    "algorithm.policy_loss": Case("gspo", (GRPO,)),
    "algorithm.policy_loss_options": Case("{clip_high = 0.01, clip_low = 0.01}", (GRPO, "algorithm.epochs=3")),
    "algorithm.loss_aggregation": Case("seq_mean_token_mean", (DR_GRPO,)),
    "algorithm.horizon": Case("7", ("algorithm.loss_aggregation=seq_mean_token_sum_norm",)),
    "algorithm.kl_estimator": Case("k2", ("algorithm.kl_loss=0.1",)),
    "algorithm.kl_in_reward": Case("0.2"),
    "algorithm.kl_target": Case("0.01", ("algorithm.kl_in_reward=0.2", "algorithm.kl_horizon=100")),
    "algorithm.kl_horizon": Case("100", ("algorithm.kl_in_reward=0.2", "algorithm.kl_target=0.01")),
    "algorithm.kl_loss": Case("0.2"),
    "algorithm.entropy_bonus": Case("0.2"),
    "algorithm.epochs": Case("2"),
    "algorithm.target_kl": Case("0.001", ("algorithm.epochs=4", GRPO)),
    "algorithm.normalise_advantages": Case("batch", (DR_GRPO,)),
    "algorithm.advantage_clip": Case("0.3", (GRPO,)),
    "algorithm.mask_truncated": Case("true"),
    "algorithm.sampling_rounds": Case("3", (GRPO, "reward.functions=['{file}:first']")),
    "algorithm.mini_batch_samples": Case("32"),
    "reward.functions": Case("['{file}:short']"),
    "reward.weights": Case("[3.0]"),
    "reward.options": Case("{{'{file}:short' = {{factor = 3.0}}}}", ("reward.functions=['{file}:short']",)),
    "reward.timeout_s": Case("0.001", ("reward.functions=['{file}:slow']", "reward.workers=0")),
    "reward.on_error": Case("leave_out", ("reward.functions=['{file}:picky']", "reward.max_error_fraction=1.0")),
    "reward.max_error_fraction": Case("1.0", ("reward.functions=['{file}:picky']", "reward.on_error=leave_out")),
    "reward.workers": Case("0", ("reward.functions=['{file}:in_a_worker']",)),
    "reward.memory_mib": Case("100", ("reward.functions=['{file}:hungry']", "reward.workers=1")),
    "reward.concurrency": Case("1", ("reward.functions=['{file}:crowded']",)),
    "reward.retries": Case("0", ("reward.functions=['{file}:flaky']", "reward.retry_wait_s=0.001", "reward.workers=1")),
    "reward.retry_wait_s": Case(
        "2.5",
        (
            "reward.functions=['{file}:late']",
            "reward.retry_wait_s=0.001",
            "reward.retries=1",
            "reward.workers=1",
            "trainer.steps=1",
        ),
    ),
    "reward.remembered_verdicts": Case("0", ("reward.functions=['{file}:tired']", "reward.workers=1")),
    "reward.clip": Case("[0.25, 0.75]"),
    "reward.normalise": Case("running"),
    "reward.overlong_buffer_tokens": Case("3", BUFFER),
    "reward.overlong_penalty": Case("1.0", BUFFER),
    "rollout_correction.preset": Case("token_tis"),
    "rollout_correction.importance_weights": Case("sequence", (TOKEN_WEIGHTS,)),
    "rollout_correction.weight_high": Case("1.05", (TOKEN_WEIGHTS,)),
    "rollout_correction.weight_low": Case("0.9", ICEPOP),
    "rollout_correction.outside": Case("truncate", ICEPOP),
    "rollout_correction.normalise": Case("true", (TOKEN_WEIGHTS,)),
    "rollout_correction.bypass": Case(
        "true", (GRPO, "algorithm.policy_loss_options={clip_low = 0.05, clip_high = 0.05}")
    ),
    "rollout_correction.reject": Case("['token_k1 0.9 2.0']"),
}
BYPASS = (GRPO, "rollout_correction.bypass=true", "algorithm.policy_loss=gpg")
IN_BYPASS = {
    "rollout_correction.importance_weights": Case("sequence", BYPASS),
    "rollout_correction.weight_high": Case("1.05", (*BYPASS, TOKEN_WEIGHTS)),
    "rollout_correction.weight_low": Case("0.9", (*BYPASS, *ICEPOP)),
    "rollout_correction.outside": Case("truncate", (*BYPASS, *ICEPOP)),
    "rollout_correction.reject": Case("['token_k1 0.9 2.0']", BYPASS),
}
"""What acts before the update otherwise, and inside the loss there."""


class VariedEngine(FakeEngine):
    """Answers of one to `LONGEST` tokens, by a policy whose log-odds are `offset` above the actor's."""

    def __init__(self, offset: float) -> None:
        super().__init__()
        self.offset = offset

    def generate(self, prompts, sampling):
        answered = super().generate(prompts, sampling)
        generator = torch.Generator().manual_seed(0 if sampling.seed is None else sampling.seed)
        likely = float(torch.sigmoid(torch.tensor(self.log_odds)))
        rows: list[list[int]] = []
        for _ in range(len(answered)):
            words = int(torch.randint(1, LONGEST + 1, (1,), generator=generator))
            draws = torch.rand(words, generator=generator)
            row = [RIGHT if draw < likely else WRONG for draw in draws.tolist()]
            rows.append(row if words == LONGEST else [*row, END])
        responses = Ragged.from_rows(rows, dtype=torch.int64)
        return replace(
            answered,
            response_ids=responses,
            response_mask=responses.with_values(torch.ones(responses.num_tokens, dtype=torch.bool)),
            rollout_log_probs=responses.with_values(log_probs_of(torch.tensor(self.log_odds), responses)),
            finish_reasons=tuple("stop" if row[-1] == END else "length" for row in rows),
        )

    def update_weights(self, named_tensors, version):
        super().update_weights(named_tensors, version)
        self.log_odds += self.offset


class UncertainActor(FakeActor):
    """The one-number policy with the entropy that it really has."""

    def update_policy(self, experience, objective, *, temperature):
        self.batch_sizes.append(len(experience))
        responses = experience.rollouts.response_ids
        log_odds = self.parameter / temperature
        uncertain = torch.nn.functional.binary_cross_entropy_with_logits(log_odds, torch.sigmoid(log_odds))
        entropy = torch.where(responses.values == END, 0.0, uncertain)
        share = objective(
            responses.with_values(log_probs_of(log_odds, responses)).padded(0.0),
            responses.with_values(entropy).padded(0.0),
            experience,
            Denominators.of(experience.loss_mask.padded(False)),
        )
        share.loss.backward()
        return {**{name: float(value) for name, value in share.metrics.items()}, "actor/grad_norm": self.step()}


def outcome(assignments: list[str], folder: Path, *, offset: float = 0.3) -> Any:
    """What a run with these settings comes to."""
    config = load_config("ppo", assignments=assignments, environ={}).config
    check_algorithm(config)
    actor, engine = UncertainActor(lr=0.5), VariedEngine(offset)
    critic = FakeCritic() if needs_of(config).critic else None
    reference = FakeActor(log_odds=-1.0) if config.uses_reference else None
    prompts = PromptStream(fake_prompts(32), EpochOrder(32, seed=1), config.rollout.prompts_per_step)
    with build_scorer(config.reward) as scorer:
        located: Any = SimpleNamespace(tokenizer=FakeTokenizer())
        parts = assemble(
            config, located, Roles(actor, critic, reference), engine, scorer, prompts, None, DirectWeightSync()
        )
        run = RunInfo("ppo", "test", folder, {}, config.trainer.steps, 0)
        store = CheckpointStore(folder / "checkpoints", keep=1)
        writer = CheckpointWriter(store, lambda target: actor.save(target), in_background=False)
        events = RunEvents(run, HookRelay(), writer)
        state = PPOState(kl_coefficient=config.algorithm.kl_in_reward)
        try:
            PPOTrainer(loop_settings(config), parts, state, events).fit(StopSignal())
        except RLKitError as error:
            return type(error)
    critics = None if critic is None else (critic.parameter.item(), critic.updates)
    return actor.parameter.item(), actor.batch_sizes, critics, engine.calls.count("generate")


@pytest.fixture
def rewards(tmp_path: Path) -> Path:
    file = tmp_path / "rewards.py"
    file.write_text(REWARDS)
    return file


def settings(key: str, case: Case, file: Path, *, changed: bool) -> list[str]:
    """The assignments of one of a case's two runs; later ones win."""
    chosen = [*BASE, f"reward.functions=['{file}:right']", *(text.replace("{file}", str(file)) for text in case.both)]
    value = case.changed.format(file=file) if key.startswith("reward.") else case.changed
    return [*chosen, f"{key}={value}"] if changed else chosen


def test_every_key_about_learning_has_a_case() -> None:
    keys = {key for key, _ in leaf_keys(PPOConfig) if key.partition(".")[0] in SECTIONS}
    assert set(CASES) == keys


@pytest.mark.parametrize(
    ("key", "case"),
    [
        *(pytest.param(key, case, id=key) for key, case in CASES.items()),
        *(pytest.param(key, case, id=f"{key}-bypass") for key, case in IN_BYPASS.items()),
    ],
)
def test_a_changed_value_changes_what_the_run_comes_to(key: str, case: Case, rewards: Path, tmp_path: Path) -> None:
    before = outcome(settings(key, case, rewards, changed=False), tmp_path / "before")
    after = outcome(settings(key, case, rewards, changed=True), tmp_path / "after")
    assert before != after


@pytest.mark.parametrize("preset", CORRECTION_PRESETS)
def test_every_correction_preset_trains(preset: str, rewards: Path, tmp_path: Path) -> None:
    chosen = [*BASE, f"reward.functions=['{rewards}:right']", GRPO, "trainer.steps=6"]
    learned = outcome([*chosen, f"rollout_correction.preset={preset}"], tmp_path / "run", offset=0.0)
    assert learned[0] > 0.2


def test_a_run_with_the_same_settings_comes_to_the_same(rewards: Path, tmp_path: Path) -> None:
    first, second = (
        outcome(settings("reward.clip", CASES["reward.clip"], rewards, changed=True), tmp_path / name)
        for name in ("first", "second")
    )
    assert first == second
