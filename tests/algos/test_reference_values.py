"""Everything in the reference file that rlkit implements, to rtol 1e-5."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from rlkit.algos.advantages.gae import compute_gae
from rlkit.algos.advantages.grpo import compute_grpo
from rlkit.algos.aggregation import Aggregation, Denominators
from rlkit.algos.kl import compute_kl
from rlkit.algos.masked import masked_mean
from rlkit.algos.policy_losses.ppo_clip import PPOClip
from rlkit.algos.value_loss import compute_value_losses

HORIZON = 16  # width of the reference tensors


def close(actual: Any, expected: Any) -> None:
    torch.testing.assert_close(torch.as_tensor(actual).float(), torch.as_tensor(expected).float(), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("mask_name", ["response_mask", "response_mask_with_gap"])
def test_gae_matches_the_reference(oracle: dict[str, Any], mask_name: str) -> None:
    case = next(c for c in oracle["advantages"] if c["name"] == "gae" and c["mask"] == mask_name)
    inputs = oracle["inputs"]
    mask = inputs[mask_name].bool()
    advantages, returns = compute_gae(
        inputs[case["rewards"]], inputs["values"], mask, gamma=case["gamma"], lam=case["lam"]
    )
    close(advantages, case["advantages"] * mask)
    close(returns, case["returns"] * mask)


@pytest.mark.parametrize("mask_name", ["response_mask", "response_mask_with_gap"])
def test_grpo_matches_the_reference(oracle: dict[str, Any], mask_name: str) -> None:
    case = next(c for c in oracle["advantages"] if c["name"] == "grpo" and c["mask"] == mask_name)
    inputs = oracle["inputs"]
    mask = inputs[mask_name].bool()
    rewards = inputs[case["rewards"]]
    # The reference scores an answer by all its rewards; ours count what stands on sampled tokens.
    scores = torch.zeros_like(rewards)
    scores[:, 0] = rewards.sum(dim=1)
    assert mask[:, 0].all()
    close(compute_grpo(scores, mask, torch.tensor(inputs["group_ids"])), case["advantages"])


@pytest.mark.parametrize("mode", ["token-mean", "seq-mean-token-sum", "seq-mean-token-mean", "seq-mean-token-sum-norm"])
@pytest.mark.parametrize("mask_name", ["response_mask", "response_mask_with_gap"])
def test_ppo_clip_matches_the_reference(oracle: dict[str, Any], mask_name: str, mode: str) -> None:
    case = next(
        c for c in oracle["losses"] if (c["name"], c["mask"], c["aggregation"]) == ("ppo_clip", mask_name, mode)
    )
    inputs = oracle["inputs"]
    mask = inputs[mask_name].bool()
    log_probs = inputs["log_probs"].clone().requires_grad_()
    loss_function = PPOClip(clip_low=case["clip_low"], clip_high=case["clip_high"], dual_clip=case["dual_clip"])
    token = loss_function(log_probs, inputs["old_log_probs"], inputs["token_advantages"])
    loss = Aggregation(mode.replace("-", "_"), HORIZON)(token.losses, mask, Denominators.of(mask))  # type: ignore[arg-type]
    loss.backward()
    close(loss, case["loss"])
    close(log_probs.grad, case["grad_log_probs"])
    close(masked_mean(token.metrics["actor/clip_fraction"], mask), case["metrics"]["actor/pg_clipfrac"])
    close(masked_mean(token.metrics["actor/kl_to_old"], mask), case["metrics"]["actor/ppo_kl"])
    close(masked_mean(token.metrics["actor/dual_clip_fraction"], mask), case["metrics"]["actor/pg_clipfrac_lower"])


@pytest.mark.parametrize("name", ["k1", "k2", "k3", "abs"])
def test_kl_estimators_match_the_reference(oracle: dict[str, Any], name: str) -> None:
    case = next(c for c in oracle["kl"] if c["name"] == name)
    log_probs = oracle["inputs"]["log_probs"].clone().requires_grad_()
    value = compute_kl(log_probs, oracle["inputs"]["ref_log_probs"], name)  # type: ignore[arg-type]
    value.sum().backward()
    close(value, case["value"])
    close(log_probs.grad, case["grad_log_probs"])


@pytest.mark.parametrize(
    "mode", ["token-mean", "seq-mean-token-sum", "seq-mean-token-mean", "seq-mean-token-sum-norm", "token-sum"]
)
def test_aggregations_match_the_reference(oracle: dict[str, Any], mode: str) -> None:
    case = next(c for c in oracle["aggregation"] if c["mode"] == mode)
    mask = oracle["inputs"][case["mask"]].bool()
    aggregation = Aggregation(mode.replace("-", "_"), HORIZON)  # type: ignore[arg-type]
    close(aggregation(oracle["inputs"][case["matrix"]], mask, Denominators.of(mask)), case["value"])


def test_the_value_loss_matches_the_reference(oracle: dict[str, Any]) -> None:
    case = oracle["value_loss"][0]
    inputs = oracle["inputs"]
    mask = inputs["response_mask"].bool()
    values = inputs["value_preds"].clone().requires_grad_()
    losses, clipped = compute_value_losses(values, inputs["values"], inputs["returns"], clip=case["clip"])
    loss = masked_mean(losses, mask)
    loss.backward()
    close(loss, case["loss"])
    close(masked_mean(clipped, mask), case["clip_fraction"])
    close(values.grad, case["grad"])
