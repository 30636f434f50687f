"""The charts of a report that have a fixed place, and the metrics that they show."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

Group = Literal["learning", "stability", "mismatch", "speed", "other"]
"""Section of the page: does it get better, is the training sound, do engine and trainer agree, what does it cost, the rest."""


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
        {"response/length_mean": "mean", "response/length_max": "longest", "response/length_min": "shortest"},
    ),
    Plan(
        "learning",
        "Cut-off answers",
        "share that reached the token limit",
        "share",
        {"response/truncated_fraction": "cut off"},
    ),
    Plan(
        "learning",
        "Prompts with nothing to compare",
        "share of prompts whose answers all have one score",
        "share",
        {"reward/equal_group_fraction": "learned from", "rollout/uninformative_fraction": "sampled"},
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
            "actor/clip_fraction_low": "actor, lower bound",
            "actor/clip_fraction_high": "actor, upper bound",
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
    Plan(
        "stability",
        "Advantages",
        "of the sampled tokens",
        "",
        {
            "advantage/mean": "mean",
            "advantage/std": "standard deviation",
            "advantage/min": "smallest",
            "advantage/max": "largest",
        },
    ),
    Plan(
        "stability",
        "Returns and values",
        "what the critic is to predict, and what it predicted; means",
        "",
        {"return/mean": "returns", "value/mean": "values"},
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
        "mismatch",
        "Difference of log-probs",
        "difference of their log-probs; should stay near zero",
        "nats",
        {"rollout/log_prob_difference_mean": "mean", "rollout/log_prob_difference_max": "largest"},
    ),
    Plan(
        "mismatch",
        "Correlation",
        "of their token probabilities; should stay near one",
        "",
        {"rollout/correlation": "correlation"},
    ),
    Plan(
        "mismatch",
        "Divergence",
        "KL per token; should stay near zero",
        "nats",
        {"rollout/kl": "k1", "rollout/kl_k3": "k3"},
    ),
    Plan(
        "mismatch",
        "Chi-square",
        "grows with the largest ratios; should stay near zero",
        "",
        {"rollout/chi2_tokens": "of tokens", "rollout/chi2_answers": "of answers"},
    ),
    Plan(
        "mismatch",
        "Perplexity of the answers",
        "under engine and trainer",
        "",
        {"rollout/perplexity": "engine", "rollout/trainer_perplexity": "trainer"},
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
        {
            "rollout/tokens_per_s": "rollouts",
            "throughput/update_tokens_per_s": "updates",
            "throughput/tokens_per_s": "whole step",
        },
    ),
    Plan(
        "speed",
        "Use of the device",
        "share of its peak (MFU)",
        "share",
        {
            "perf/mfu": "whole step",
            "perf/mfu_rollout": "rollout",
            "perf/mfu_log_probs": "log probs",
            "perf/mfu_update_critic": "update critic",
            "perf/mfu_update_actor": "update actor",
        },
    ),
    Plan(
        "speed",
        "Memory",
        "after each step, and its peak so far",
        "bytes",
        {
            "memory/process_bytes": "process",
            "memory/process_peak_bytes": "process, peak",
            "memory/device_bytes": "device",
            "memory/device_peak_bytes": "device, peak",
        },
    ),
)

ONLY_WHEN_IT_HAPPENED = frozenset({"Skipped updates", "Unjudged answers"})
"""Charts that are left out while all of their values are zero."""

IN_OTHER_CHARTS = (
    *(
        "reward/",
        "time/",
        "time_per_token/",
        "return/",
        "value/",
        "prompt/",
        "sft/epoch",
        "perf/peak_",
        "perf/mfu_update",
    ),
    *("rollout/policy_version", "rollout/tokens"),
    *("response/length_std", "critic/value_mean", "actor/entropy_before"),
)
"""Beginnings of metrics that are drawn by a chart of their own kind, follow from others, or are not worth one."""
