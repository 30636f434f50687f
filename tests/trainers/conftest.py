"""The PPO loop on fakes: no network, no files but the checkpoint's."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from rlkit.algos.aggregation import Aggregation
from rlkit.algos.objective import PolicyObjective, ValueObjective
from rlkit.algos.policy_losses.ppo_clip import PPOClip
from rlkit.cluster.weight_sync import DirectWeightSync
from rlkit.config.algorithm import AlgorithmSection
from rlkit.data.order import EpochOrder
from rlkit.pipelines.algorithms import build_estimator
from rlkit.plugin import PluginKind
from rlkit.plugin.hooks import HookRelay
from rlkit.plugin.hookspecs import RunInfo, hookimpl
from rlkit.plugin.loader import load_spec
from rlkit.testing.fakes import FakeActor, FakeCritic, FakeEngine, FakeScorer, FakeTokenizer, fake_prompts
from rlkit.tracking.checkpoint_writer import CheckpointWriter
from rlkit.tracking.checkpoints import CheckpointStore
from rlkit.trainers.experience import AdvantageSettings
from rlkit.trainers.ppo import PPOParts, PPOSettings, PPOTrainer
from rlkit.trainers.ppo_state import PPOState, PromptStream
from rlkit.trainers.run_events import RunEvents
from rlkit.trainers.stop_signal import StopSignal
from rlkit.trainers.validation import Validator
from rlkit.types import SamplingParams


@dataclass
class Recorder:
    """A hook that remembers every event."""

    events: list[tuple[str, int]] = field(default_factory=list)
    metrics: dict[int, dict[str, float]] = field(default_factory=dict)
    validations: dict[int, dict[str, float]] = field(default_factory=dict)

    @hookimpl
    def rollouts_ready(self, step: int, rollouts: Any, rewards: Any) -> None:
        assert len(rollouts) == len(rewards)
        self.events.append(("rollouts", step))

    @hookimpl
    def step_finished(self, step: int, metrics: Any) -> None:
        self.events.append(("step", step))
        self.metrics[step] = dict(metrics)

    @hookimpl
    def validation_finished(self, step: int, metrics: Any) -> None:
        self.events.append(("validation", step))
        self.validations[step] = dict(metrics)

    @hookimpl
    def checkpoint_saved(self, step: int, folder: Path) -> None:
        self.events.append(("checkpoint", step))


@dataclass
class Loop:
    """A trainer with everything that a test may want to look at."""

    trainer: PPOTrainer
    actor: FakeActor
    critic: FakeCritic | None
    engine: FakeEngine
    recorder: Recorder
    store: CheckpointStore
    stop: StopSignal

    def fit(self) -> Loop:
        self.trainer.fit(self.stop)
        return self


@pytest.fixture
def build_loop(tmp_path: Path) -> Callable[..., Loop]:
    """Function: a loop of 4 steps with 8 prompts x 4 samples; keyword arguments change settings and parts."""

    def build(
        *,
        estimator: str = "gae",
        validation: int = 0,
        parts: dict[str, Any] | None = None,
        kl_coefficient: float = 0.0,
        **changes: Any,
    ) -> Loop:
        settings = PPOSettings(
            steps=4,
            seed=1,
            epochs=1,
            mini_batch_samples=32,
            critic_warmup_iterations=0,
            validate_every=0,
            validate_first=True,
            checkpoint_every=0,
        )
        settings = replace(settings, **changes)
        actor, engine = FakeActor(), FakeEngine()
        needs = load_spec(PluginKind.ADVANTAGE_ESTIMATOR, estimator).needs
        critic = FakeCritic() if "critic" in needs else None
        order = EpochOrder(32, seed=1)
        validator = Validator(
            fake_prompts(validation), SamplingParams(max_tokens=2, temperature=0.0), FakeTokenizer(), FakeScorer()
        )
        made: dict[str, Any] = {
            "actor": actor,
            "critic": critic,
            "engine": engine,
            "weight_sync": DirectWeightSync(),
            "scorer": FakeScorer(),
            "tokenizer": FakeTokenizer(),
            "prompts": PromptStream(fake_prompts(32), order, 8),
            "sampling": SamplingParams(max_tokens=2, samples=4),
            "policy_objective": PolicyObjective(PPOClip(0.2, 0.2, 3.0), Aggregation("token_mean")),
            "value_objective": ValueObjective(0.2),
            "advantages": AdvantageSettings(
                build_estimator(AlgorithmSection(advantage=estimator)),
                "k3",
                {"word": 1.0},
                probability_squares="probability_squares" in needs,
            ),
            "greedy_baseline": "greedy_baseline" in needs,
            "validator": validator if validation else None,
            **(parts or {}),
        }
        recorder, relay = Recorder(), HookRelay()
        relay.add("recorder", recorder)
        store = CheckpointStore(tmp_path / "checkpoints", keep=10)
        run = RunInfo("ppo", "test", tmp_path, {}, settings.steps, 0)
        writer = CheckpointWriter(store, lambda folder: actor.save(folder), in_background=False)
        events = RunEvents(run, relay, writer)
        trainer = PPOTrainer(settings, PPOParts(**made), PPOState(kl_coefficient=kl_coefficient), events)
        return Loop(trainer, actor, critic, engine, recorder, store, StopSignal())

    return build
