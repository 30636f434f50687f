"""The maths of the update, as a section."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from rlkit.config.base import Section
from rlkit.config.fields import Fraction, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveFraction, PositiveInt

AdvantageName = Literal[
    "gae",
    "grpo",
    "dr_grpo",
    "grpo_passk",
    "rloo",
    "opo",
    "gpg",
    "gdpo",
    "remax",
    "reinforce_plus_plus",
    "reinforce_plus_plus_baseline",
]
WITHOUT_GROUPS = ("gae", "remax", "reinforce_plus_plus")
"""Advantage estimators that do not compare the answers to one prompt."""


class AlgorithmSection(Section):
    """The maths of the update."""

    advantage: AdvantageName = "gae"
    """Advantage estimator. gae: needs a critic, per-token credit. remax: a greedy answer to each prompt as baseline. reinforce_plus_plus: none of these. The others compare the answers to one prompt and need no critic; gdpo does so for each reward function by itself. Formulas: docs/algorithms.md."""
    gamma: PositiveFraction = 1.0
    """Discount of later rewards; 1 is usual for answers that are judged at their end."""
    lam: Fraction = 1.0
    """GAE's lambda: 1 trusts the rewards (no bias), lower values trust the critic (less variance)."""
    policy_loss: Literal["ppo_clip", "gspo", "cispo", "sapo", "gmpo", "gpg"] = "ppo_clip"
    """Policy loss. ppo_clip clips token ratios, gspo ratios of whole answers, cispo the weight instead of the update; sapo fades smoothly; gmpo takes the geometric mean of token ratios; gpg is the plain policy gradient. Formulas: docs/algorithms.md."""
    clip_low: Fraction = 0.2
    """The probability ratio is clipped from below at 1 - clip_low."""
    clip_high: NonNegativeFloat = 0.2
    """The probability ratio is clipped from above at 1 + clip_high; above clip_low is DAPO's clip-higher."""
    dual_clip: Annotated[float, Field(gt=1)] = 3.0
    """For negative advantages the loss is capped at this multiple of the advantage (dual clip); ppo_clip only."""
    sapo_tau_positive: PositiveFloat = 1.0
    """How fast sapo's gate closes where the advantage is positive; larger is faster."""
    sapo_tau_negative: PositiveFloat = 1.05
    """As sapo_tau_positive, where the advantage is negative."""
    loss_aggregation: Literal[
        "token_mean", "seq_mean_token_sum", "seq_mean_token_mean", "seq_mean_token_sum_norm", "token_sum"
    ] = "token_mean"
    """How token losses become one number; denominators are counted over the whole mini-batch."""
    horizon: NonNegativeInt = 0
    """Divisor of seq_mean_token_sum_norm; 0 means rollout.max_response_tokens."""
    kl_estimator: Literal["k1", "k2", "k3", "abs", "k1+", "k2+", "k3+", "abs+"] = "k3"
    """Estimator of the divergence from the reference (Schulman 2020, http://joschu.net/blog/kl-approx.html). `+` takes k2's gradient, which is the divergence's own; for kl_loss."""
    kl_in_reward: NonNegativeFloat = 0.0
    """Coefficient of the KL penalty subtracted from each token's reward; 0 leaves it out."""
    kl_target: NonNegativeFloat = 0.0
    """Above 0, kl_in_reward is only where the coefficient starts: it then follows this KL from the reference, in nats an answer."""
    kl_horizon: PositiveFloat = 10_000.0
    """Answers over which the coefficient follows kl_target; smaller is faster."""
    kl_loss: NonNegativeFloat = 0.0
    """Coefficient of the KL term added to the policy loss; 0 leaves it out."""
    entropy_bonus: NonNegativeFloat = 0.0
    """Coefficient of the entropy added to the objective; 0 leaves it out."""
    epochs: PositiveInt = 1
    """Passes over each iteration's rollouts."""
    target_kl: NonNegativeFloat = 0.0
    """An iteration's updates end early when the policy's KL from the one that answered exceeds this; 0 never ends them early."""
    sampling_rounds: PositiveInt = 1
    """Above 1: prompts whose answers all have the same reward, which teach nothing, are replaced by fresh ones, in up to so many rounds (dynamic sampling, DAPO)."""
    mini_batch_samples: NonNegativeInt = 0
    """Answers in one optimizer step; 0 means all of the iteration's (fully on-policy). Must divide prompts_per_step x samples_per_prompt."""
