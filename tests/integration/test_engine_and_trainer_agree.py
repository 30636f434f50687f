"""The hf engine and the fsdp actor compute the same log-probs, and a run says so when they do not.

What engine log-probs are: those of softmax(logits / temperature), before top-k, top-p and min-p drop tokens. The trainer
recomputes exactly that, so the two can be compared whatever the sampling.
"""

from __future__ import annotations

import json
import random
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import rlkit_fsdp.roles
import torch
from rlkit_fsdp.actor import FSDPActor
from rlkit_hf.engine import HFEngine

from rlkit.algos.objective import PolicyObjective
from rlkit.cluster.weight_sync import DirectWeightSync
from rlkit.config.load import load_config
from rlkit.pipelines.assembly import build_engine, load_prompt_batch, locate
from rlkit.pipelines.ppo import build_roles, run_ppo
from rlkit.pipelines.training_place import TrainingPlace
from rlkit.types import SamplingParams

pytestmark = pytest.mark.slow

TOLERANCE = 1e-4
"""Largest difference of a token's log-probs between two correct implementations in float32, nats."""

SETTINGS = (
    *("rollout.prompts_per_step=24", "rollout.samples_per_prompt=8", "rollout.max_response_tokens=14"),
    *("actor.lr=5e-4", "actor.warmup_steps=0", "algorithm.mini_batch_samples=64", "actor.micro_batch_tokens=700"),
    *("data.validation=[]", "trainer.save_rollouts=false", "trainer.steps=4"),
)


def settings(project: Path, *assignments: str):
    model = f"model.path={project / 'runs' / 'sft' / 'model'}"
    return load_config("ppo", project / "grpo.toml", assignments=[model, *SETTINGS, *assignments], environ={})


@dataclass(frozen=True)
class Run:
    """What a run of a few iterations said: the metrics of each, and the warnings in its log."""

    steps: list[dict[str, float]]
    warnings: list[str]

    def largest(self, name: str) -> float:
        return max(abs(metrics[name]) for metrics in self.steps)


@pytest.fixture
def run(half_right, tmp_path):
    def start(*assignments: str) -> Run:
        run_ppo(settings(half_right, f"run.output={tmp_path}", "run.name=run", *assignments))
        entries = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
        log = (tmp_path / "run" / "log.txt").read_text().splitlines()
        return Run(
            [entry["metrics"] for entry in entries if entry["event"] == "step"],
            [line for line in log if "engine and trainer disagree" in line],
        )

    return start


@pytest.fixture
def both(half_right):
    """Function: an engine and an actor with the same weights, prompts of unequal lengths, and the tokenizer's end."""

    def build(*assignments: str):
        config = settings(half_right, *assignments).config
        located = locate(config.model)
        prompts = load_prompt_batch(config.data, config.data.train, located, name="data")
        shuffler = random.Random(0)
        longer = [ids[:1] * shuffler.randrange(12) + ids for ids in prompts.token_ids]
        engine = build_engine(config.rollout, config.model, config.run, located, "cpu", name="rollout")
        actor = build_roles(config, located, TrainingPlace(config, device="cpu").backend(), "cpu").actor
        return engine, actor, replace(prompts, token_ids=tuple(map(tuple, longer)))

    return build


@pytest.mark.parametrize(
    "sampling",
    [
        {},
        {"temperature": 0.6},
        {"temperature": 1.5},
        {"top_p": 0.8},
        {"top_k": 2},
        {"min_p": 0.2, "temperature": 1.3},
        {"stop": ("####",)},
        {"repetition_penalty": 1.3},
    ],
    ids=str,
)
@pytest.mark.parametrize("batching", [(), ("rollout.options.max_batch_tokens=900", "actor.micro_batch_tokens=200")])
def test_log_probs_agree_token_by_token(both, sampling, batching):
    engine, actor, prompts = both(*batching)
    rollouts = engine.generate(prompts, SamplingParams(max_tokens=14, samples=4, seed=3, **sampling))
    assert set(rollouts.finish_reasons) == {"stop", "length"}
    assert len(set(rollouts.prompt_ids.lengths.tolist())) > 5
    trained = actor.compute_log_probs(rollouts, temperature=sampling.get("temperature", 1.0))
    difference = trained.log_probs.values - rollouts.rollout_log_probs.values
    assert rollouts.response_mask.values.all()
    assert difference.abs().max() < TOLERANCE
    assert rollouts.rollout_log_probs.values.min() < -1


def test_tokens_that_top_k_drops_keep_their_share_of_the_log_probs(both):
    """Renormalised after top-k = 1, every log-prob would be 0."""
    engine, _, prompts = both()
    rollouts = engine.generate(prompts, SamplingParams(max_tokens=14, top_k=1))
    greedy = engine.generate(prompts, SamplingParams(max_tokens=14, temperature=0.0))
    assert torch.equal(rollouts.response_ids.values, greedy.response_ids.values)
    assert torch.equal(rollouts.rollout_log_probs.values, greedy.rollout_log_probs.values)
    assert rollouts.rollout_log_probs.values.min() < -0.5


@pytest.fixture
def ratios(monkeypatch):
    """One entry for each micro-batch of a run: the largest distance of an importance ratio from 1."""
    seen: list[float] = []
    measured = PolicyObjective.__call__

    def spy(self, log_probs, entropy, batch, denominators):
        mask = batch.loss_mask.padded(False)
        ratio = torch.exp(log_probs.detach() - batch.old_log_probs.padded(0.0))
        seen.append(float((ratio - 1)[mask].abs().max()))
        return measured(self, log_probs, entropy, batch, denominators)

    monkeypatch.setattr(PolicyObjective, "__call__", spy)
    return seen


@pytest.mark.parametrize("temperature", [1.0, 0.7])
def test_the_first_update_starts_from_a_ratio_of_one(run, ratios, temperature):
    done = run("algorithm.mini_batch_samples=0", f"rollout.temperature={temperature}", "trainer.steps=1")
    assert len(ratios) > 3  # micro-batches of the one update
    assert max(ratios) < 1e-5
    assert done.steps[0]["actor/clip_fraction"] == 0
    assert abs(done.steps[0]["actor/kl_to_old"]) < 1e-6


def test_later_updates_do_not(run, ratios):
    done = run("trainer.steps=1")
    assert max(ratios) > 0.1
    assert done.steps[0]["actor/clip_fraction"] > 0


SAMPLINGS = {
    "plain": (),
    "temperature": ("rollout.temperature=0.7",),
    "nucleus": ("rollout.top_p=0.9", "rollout.top_k=8", "rollout.temperature=1.2"),
}


@pytest.mark.parametrize("sampling", SAMPLINGS)
def test_a_clean_run_agrees_at_every_iteration_and_does_not_warn(run, sampling):
    done = run(*SAMPLINGS[sampling])
    assert len(done.steps) == 4
    assert all(0.1 < metrics["response/truncated_fraction"] < 0.9 for metrics in done.steps)
    assert done.largest("rollout/log_prob_difference_max") < TOLERANCE
    assert done.largest("rollout/log_prob_difference_mean") < TOLERANCE / 10
    assert done.largest("rollout/kl_k3") < 1e-6
    assert done.largest("rollout/kl") < 1e-5
    assert min(metrics["rollout/correlation"] for metrics in done.steps) > 0.9999
    assert done.warnings == []


def test_rounding_in_bfloat16_is_seen_and_is_no_warning(run):
    done = run("model.dtype=bfloat16", "rollout.temperature=1.3")
    assert done.largest("rollout/log_prob_difference_mean") > 10 * TOLERANCE
    assert done.warnings == []


def shift_the_mask(monkeypatch):
    """The trainer takes each token's prediction from one position too early."""
    rightly = rlkit_fsdp.roles.pack_rollouts

    def shifted(rollouts, device):
        packed = rightly(rollouts, device)
        return replace(packed, predict_at=(packed.predict_at - 1).clamp(min=0))

    monkeypatch.setattr(rlkit_fsdp.roles, "pack_rollouts", shifted)
    # `forward` has its own name for it.
    monkeypatch.setattr("rlkit_fsdp.forward.pack_rollouts", shifted)


def shift_the_engines_log_probs(monkeypatch):
    """The engine gives each token the log-prob of its neighbour."""
    rightly = HFEngine.generate

    def shifted(self, prompts, sampling):
        rollouts = rightly(self, prompts, sampling)
        log_probs = rollouts.rollout_log_probs
        return replace(rollouts, rollout_log_probs=log_probs.with_values(log_probs.values.roll(1)))

    monkeypatch.setattr(HFEngine, "generate", shifted)


def forget_the_temperature(monkeypatch):
    """The trainer computes at temperature 1 what was sampled at another."""
    rightly = FSDPActor.compute_log_probs
    monkeypatch.setattr(
        FSDPActor,
        "compute_log_probs",
        lambda self, rollouts, **others: rightly(self, rollouts, **{**others, "temperature": 1.0}),
    )


def push_only_once(monkeypatch):
    """After the first time, nothing reaches the engine."""
    rightly, pushed = DirectWeightSync.push, []

    def push(self, actor, engine, version):
        if not pushed:
            rightly(self, actor, engine, version)
        pushed.append(version)

    monkeypatch.setattr(DirectWeightSync, "push", push)


def keep_the_old_weights(monkeypatch):
    """The engine notes the new version and keeps the old weights."""

    def update_weights(self, named_tensors, version):
        self._version = version

    monkeypatch.setattr(HFEngine, "update_weights", update_weights)


FAULTS = {
    shift_the_mask: ("plain", "from the first iteration on"),
    shift_the_engines_log_probs: ("nucleus", "from the first iteration on"),
    forget_the_temperature: ("temperature", "from the first iteration on"),
    push_only_once: ("plain", "the engine answered with weights of version 0, the trainer is at 3"),
    keep_the_old_weights: ("plain", "they agreed before"),
}


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.__name__)
def test_a_fault_shows_in_the_metrics_and_is_said_once(run, monkeypatch, fault):
    sampling, advice = FAULTS[fault]
    fault(monkeypatch)
    done = run(*SAMPLINGS[sampling])
    assert done.largest("rollout/log_prob_difference_mean") > 50 * TOLERANCE
    assert done.largest("rollout/log_prob_difference_max") > 5000 * TOLERANCE
    assert done.largest("rollout/kl_k3") > 1e-4
    assert min(metrics["rollout/correlation"] for metrics in done.steps) < 0.9995
    assert len(done.warnings) == 1
    assert advice in done.warnings[0]
