"""The charts of a report that have a fixed place, and the metrics that they show."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

Group = Literal["learning", "stability", "speed", "other"]
"""Section of the page: does it get better, is the training sound, what does it cost, and everything else."""


@dataclass(frozen=True)
class Plan:
    """A chart to be made when the run has one of its metrics; `metrics` maps metric names to what they are called."""

    group: Group
    title: str
    note: str
    unit: str
    metrics: Mapping[str, str]


LOSS = Plan("learning", "Loss", "cross-entropy on answer tokens", "nats", {"sft/loss": "training"})

PLANS = (
    LOSS,
    Plan(
        "learning",
        "Answer length",
        "over the answers of a step",
        "tokens",
        {"response/length_mean": "mean", "response/length_max": "longest"},
    ),
    Plan(
        "learning",
        "Cut-off answers",
        "share that reached the token limit",
        "share",
        {"response/truncated_fraction": "cut off"},
    ),
    Plan("learning", "Unjudged answers", "the reward failed on them", "", {"reward/errors": "answers"}),
    Plan(
        "stability",
        "KL divergence",
        "of the policy, per token",
        "nats",
        {"actor/kl_to_reference": "from the reference", "actor/kl_to_old": "from the policy that answered"},
    ),
    Plan("stability", "Entropy", "of the policy, per token", "nats", {"actor/entropy": "entropy"}),
    Plan(
        "stability",
        "Clipped tokens",
        "share of tokens whose update was clipped",
        "share",
        {
            "actor/clip_fraction": "actor",
            "actor/dual_clip_fraction": "actor, dual clip",
            "critic/clip_fraction": "critic",
        },
    ),
    Plan(
        "stability",
        "Gradient norm",
        "before clipping",
        "",
        {"actor/grad_norm": "actor", "critic/grad_norm": "critic", "sft/grad_norm": "model"},
    ),
    Plan(
        "stability",
        "Policy loss",
        "its size says little; sudden jumps do",
        "",
        {"actor/policy_loss": "policy", "actor/kl_loss": "KL term", "actor/loss": "total"},
    ),
    Plan("stability", "Critic loss", "error of the predicted returns", "", {"critic/loss": "critic"}),
    Plan(
        "stability",
        "Critic",
        "share of the returns' variance explained",
        "",
        {"critic/explained_variance": "explained"},
    ),
    Plan(
        "stability",
        "Engine against trainer",
        "difference of their log-probs; should stay near zero",
        "nats",
        {"rollout/log_prob_difference_mean": "mean", "rollout/log_prob_difference_max": "largest"},
    ),
    Plan(
        "stability",
        "Skipped updates",
        "so far, for gradients that were not finite",
        "",
        {"actor/skipped_steps": "actor", "critic/skipped_steps": "critic", "sft/skipped_steps": "model"},
    ),
    Plan(
        "stability",
        "Learning rate",
        "at the end of the step",
        "",
        {"actor/lr": "actor", "critic/lr": "critic", "sft/lr": "model"},
    ),
    Plan(
        "speed",
        "Throughput",
        "how fast tokens are made, or learned from",
        "tokens/s",
        {"rollout/tokens_per_s": "rollouts", "throughput/tokens_per_s": "training"},
    ),
    Plan(
        "speed",
        "Memory",
        "peak so far",
        "bytes",
        {
            "memory/peak_bytes": "peak",
            "memory/process_peak_bytes": "process",
            "memory/device_peak_bytes": "device",
        },
    ),
)

ONLY_WHEN_IT_HAPPENED = frozenset({"Skipped updates", "Unjudged answers"})
"""Charts that are left out while all of their values are zero."""

IN_OTHER_CHARTS = ("reward/", "time/", "sft/epoch", "rollout/policy_version")
"""Metrics drawn by a chart of their own kind, or not worth one."""
