"""The maths of the update, as a section."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from rlkit.config.base import Section
from rlkit.config.fields import (
    EstimatorName,
    LossName,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
)


class AlgorithmSection(Section):
    """The maths of the update."""

    advantage: EstimatorName = "gae"
    """Advantage estimator: a plugin's name, `file.py:function` or `package.module:attr`. Those that compare the answers to one prompt need several of them and no critic. Formulas: docs/algorithms.md."""
    advantage_options: dict[str, Any] = Field(default_factory=dict)
    """The estimator's own options, such as gae's gamma and lam; see `rlkit plugins show advantage_estimator:gae`."""
    policy_loss: LossName = "ppo_clip"
    """Policy loss: a plugin's name, `file.py:function` or `package.module:attr`. They differ in how far they let the policy go from the one that answered. Formulas: docs/algorithms.md."""
    policy_loss_options: dict[str, Any] = Field(default_factory=dict)
    """The loss's own options, such as ppo_clip's clip_low and clip_high; see `rlkit plugins show policy_loss:ppo_clip`."""
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
    normalise_advantages: Literal["none", "batch"] = "none"
    """batch: the advantages are brought to mean 0 and variance 1 over all tokens of the iteration, on top of what the estimator does."""
    advantage_clip: NonNegativeFloat = 0.0
    """Advantages beyond plus or minus this are cut to it, after any normalisation; 0 leaves them."""
    mask_truncated: bool = False
    """Answers cut off at rollout.max_response_tokens leave the loss (DAPO's overlong filtering); their rewards still count in the baselines of the others."""
    sampling_rounds: PositiveInt = 1
    """Above 1: prompts whose answers all have the same reward, which teach nothing, are replaced by fresh ones, in up to so many rounds (dynamic sampling, DAPO)."""
    mini_batch_samples: NonNegativeInt = 0
    """Answers in one optimizer step; 0 means all of the iteration's (fully on-policy). Must divide prompts_per_step x samples_per_prompt."""
