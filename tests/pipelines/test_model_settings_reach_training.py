"""No setting of the models in training is accepted and ignored: each key changes what a run comes to.

A run is the real config, the real backend on a tiny model and the real loop around an engine of made-up answers. What it
comes to is the policy, the critic's values and the reference's log-probs. Settings that only trade memory for time must
change none of that; they are looked up where the models keep them.
"""

from __future__ import annotations

import atexit
import shutil
from functools import cache
from pathlib import Path
from tempfile import mkdtemp
from types import SimpleNamespace
from typing import Any, NamedTuple

import pytest
import torch

from rlkit.cluster.weight_sync import DirectWeightSync
from rlkit.config.keys import leaf_keys
from rlkit.config.load import load_config
from rlkit.config.runs import PPOConfig
from rlkit.data.order import EpochOrder
from rlkit.models.registry import find_family
from rlkit.pipelines.ppo import Roles, assemble, build_roles, loop_settings
from rlkit.plugin import PluginKind
from rlkit.plugin.hooks import HookRelay
from rlkit.plugin.hookspecs import RunInfo
from rlkit.plugin.loader import build_plugin
from rlkit.rewards.scorer import build_scorer
from rlkit.testing.fakes import FakeEngine, FakeTokenizer, fake_prompts
from rlkit.testing.tiny_model import tiny_model, write_tiny_model
from rlkit.trainers.ppo import PPOTrainer
from rlkit.trainers.ppo_state import PPOState, PromptStream
from rlkit.trainers.stop_signal import StopSignal
from rlkit.types import Rollouts, SamplingParams

pytestmark = pytest.mark.slow

SECTIONS = ("actor", "critic", "reference")
BASE = (
    "rollout.samples_per_prompt=2",
    "rollout.prompts_per_step=4",
    "rollout.max_response_tokens=2",
    "algorithm.mini_batch_samples=4",
    "algorithm.epochs=2",
    "trainer.steps=3",
    "actor.lr=1e-2",
    "critic.lr=1e-2",
    "reward.functions=['{file}:right']",
)
REWARD = "def right(response):\n    return float(response.startswith('right'))\n"
BACKEND = """\
from dataclasses import replace
from rlkit_fsdp.backend import FSDPBackend

class Faster(FSDPBackend):
    def build_actor(self, role):
        return super().build_actor(replace(role, optimizer=replace(role.optimizer, lr=0.1)))
"""


class Case(NamedTuple):
    """Two runs that differ in one key; `both` is what they share besides `BASE`."""

    changed: str
    both: tuple[str, ...] = ()


def optimizer_cases(section: str) -> dict[str, Case]:
    rank = (f"{section}.lora.rank=2",)
    cases = {
        "lr": Case("2e-2"),
        "schedule": Case("linear"),
        "warmup_steps": Case("5"),
        "min_lr_ratio": Case("0.5", (f"{section}.schedule=cosine",)),
        "weight_decay": Case("0.5"),
        "betas": Case("[0.5, 0.9]"),
        "eps": Case("0.1"),
        "max_grad_norm": Case("1e-6"),
        "lora.rank": Case("2"),
        "lora.alpha": Case("64", rank),
        "lora.targets": Case("['q_proj']", rank),
    }
    return {f"{section}.{name}": case for name, case in cases.items()}


SHARED = ("critic.shared_trunk=true",)
KL = ("algorithm.kl_loss=0.1",)
CASES = {
    **optimizer_cases("actor"),
    **optimizer_cases("critic"),
    "actor.backend": Case("{folder}/faster.py:Faster"),
    "critic.path": Case("{folder}/other"),
    "critic.shared_trunk": Case("true"),
    "critic.loss_weight": Case("0.9", SHARED),
    "critic.value_clip": Case("1e-4"),
    "critic.warmup_iterations": Case("1"),
    "reference.path": Case("{folder}/other", KL),
    "reference.refresh_every": Case("1", KL),
    "reference.ema_decay": Case("0.5", KL),
}
MEMORY_ONLY = {
    f"{section}.{name}": value
    for section in ("actor", "critic")
    for name, value in (("micro_batch_tokens", 77), ("gradient_checkpointing", True))
}
THE_BACKEND_S_OWN = {"actor.options"}
"""Checked by the backend's config class, and by its tests."""


class MadeUpEngine(FakeEngine):
    """The fake's answers, whatever the weights of the actor are."""

    def update_weights(self, named_tensors: Any, version: int) -> None:
        for _ in named_tensors:
            pass
        self.version = version


@cache
def folder() -> Path:
    """A reward, a backend and another model."""
    made = Path(mkdtemp(prefix="rlkit-settings-"))
    atexit.register(shutil.rmtree, made, ignore_errors=True)
    (made / "reward.py").write_text(REWARD)
    (made / "faster.py").write_text(BACKEND)
    write_tiny_model(made / "other", seed=1)
    return made


def roles_of(assignments: tuple[str, ...]) -> tuple[PPOConfig, Roles]:
    chosen = [
        text.replace("{file}", str(folder() / "reward.py")).replace("{folder}", str(folder())) for text in assignments
    ]
    config: Any = load_config("ppo", assignments=[f"model.path={tiny_model()}", *chosen], environ={}).config
    located: Any = SimpleNamespace(folder=tiny_model(), family=find_family(tiny_model()))
    backend: Any = build_plugin(
        PluginKind.ACTOR_BACKEND, config.actor.backend, config.actor.options, where="actor.options"
    )
    return config, build_roles(config, located, backend, "cpu")


@cache
def outcome(*assignments: str) -> tuple[float, ...]:
    """What a run with these settings comes to."""
    config, roles = roles_of(assignments)
    engine = MadeUpEngine()
    prompts = PromptStream(fake_prompts(16), EpochOrder(16, seed=1), config.rollout.prompts_per_step)
    probe: Rollouts = engine.generate(fake_prompts(4), SamplingParams(max_tokens=2, seed=9))
    with build_scorer(config.reward) as scorer:
        located: Any = SimpleNamespace(tokenizer=FakeTokenizer())
        parts = assemble(config, located, roles, engine, scorer, prompts, None, DirectWeightSync())
        run = RunInfo("ppo", "test", folder(), {}, config.trainer.steps, 0)
        PPOTrainer(loop_settings(config), parts, PPOState(), Unheard(run)).fit(StopSignal())  # type: ignore[arg-type]
    ends = [*roles.actor.compute_log_probs(probe, temperature=1.0).log_probs.values.tolist()]
    if roles.critic is not None:
        ends += roles.critic.compute_values(probe).values.tolist()
    if roles.reference is not None:
        ends += roles.reference.compute_log_probs(probe, temperature=1.0).log_probs.values.tolist()
    return tuple(ends)


class Unheard:
    """Events that nobody listens to, and no checkpoints."""

    def __init__(self, run: RunInfo) -> None:
        self.run, self.hooks = run, HookRelay()

    def __getattr__(self, name: str) -> Any:
        return lambda *arguments, **options: None


def test_every_key_about_models_is_looked_at() -> None:
    keys = {key for key, _ in leaf_keys(PPOConfig) if key.partition(".")[0] in SECTIONS}
    assert {*CASES, *MEMORY_ONLY, *THE_BACKEND_S_OWN} == keys


@pytest.mark.parametrize("key", CASES)
def test_a_changed_value_changes_what_the_run_comes_to(key: str) -> None:
    case = CASES[key]
    before = outcome(*BASE, *case.both)
    after = outcome(*BASE, *case.both, f"{key}={case.changed}")
    assert before[: len(after)] != after[: len(before)]


@pytest.mark.parametrize("key", MEMORY_ONLY)
def test_what_is_about_memory_reaches_the_model_and_changes_nothing_else(key: str) -> None:
    section, _, name = key.partition(".")
    changed = (*BASE, f"{key}={str(MEMORY_ONLY[key]).lower()}")
    _, roles = roles_of(changed)
    assert getattr(getattr(roles, section).role, name) == MEMORY_ONLY[key]
    torch.testing.assert_close(torch.tensor(outcome(*changed)), torch.tensor(outcome(*BASE)), rtol=1e-3, atol=1e-4)


def test_a_run_with_the_same_settings_comes_to_the_same() -> None:
    assert outcome(*BASE) == outcome.__wrapped__(*BASE)
