"""Everything in the reference file that rlkit implements, to rtol 1e-5."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from rlkit.algos.advantages.dr_grpo import compute_dr_grpo
from rlkit.algos.advantages.gae import compute_gae
from rlkit.algos.advantages.gpg import compute_gpg
from rlkit.algos.advantages.grpo import compute_grpo
from rlkit.algos.advantages.grpo_passk import compute_grpo_passk
from rlkit.algos.advantages.opo import compute_opo
from rlkit.algos.advantages.reinforce_plus_plus import (
    compute_reinforce_plus_plus,
    compute_reinforce_plus_plus_baseline,
)
from rlkit.algos.advantages.remax import compute_remax
from rlkit.algos.advantages.rloo import compute_rloo
from rlkit.algos.aggregation import Aggregation, Denominators
from rlkit.algos.kl import compute_kl
from rlkit.algos.masked import masked_mean
from rlkit.algos.policy_losses.cispo import CISPO
from rlkit.algos.policy_losses.gmpo import GMPO
from rlkit.algos.policy_losses.gspo import GSPO
from rlkit.algos.policy_losses.ppo_clip import PPOClip
from rlkit.algos.policy_losses.sapo import SAPO
from rlkit.algos.policy_losses.token_losses import PolicyLoss, clamped_log_ratio
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


BY_GROUP: dict[str, Callable[..., Tensor]] = {
    "grpo": compute_grpo,
    "dr_grpo": compute_dr_grpo,
    "grpo_passk": compute_grpo_passk,
    "rloo": compute_rloo,
    "opo": compute_opo,
    "gpg": compute_gpg,
    "reinforce_plus_plus_baseline": compute_reinforce_plus_plus_baseline,
}


@pytest.mark.parametrize("name", BY_GROUP)
def test_group_estimators_match_the_reference(oracle: dict[str, Any], name: str) -> None:
    inputs = oracle["inputs"]
    cases = [case for case in oracle["advantages"] if case["name"] == name]
    assert cases
    for case in cases:
        mask = inputs[case["mask"]].bool()
        rewards = inputs[case["rewards"]]
        # The reference scores an answer by all its rewards; ours count what stands on sampled tokens.
        scores = torch.zeros_like(rewards)
        scores[:, 0] = rewards.sum(dim=1)
        assert mask[:, 0].all()
        group_ids = torch.tensor(case.get("group_ids", inputs["group_ids"]))
        close(BY_GROUP[name](scores, mask, group_ids), case["advantages"] * mask)


@pytest.mark.parametrize("mask_name", ["response_mask", "response_mask_with_gap"])
def test_remax_matches_the_reference(oracle: dict[str, Any], mask_name: str) -> None:
    inputs = oracle["inputs"]
    (case,) = [c for c in oracle["advantages"] if (c["name"], c["mask"]) == ("remax", mask_name)]
    mask = inputs[mask_name].bool()
    close(compute_remax(inputs[case["rewards"]], mask, inputs[case["greedy"]]), case["advantages"] * mask)


@pytest.mark.parametrize("mask_name", ["response_mask", "response_mask_with_gap"])
def test_reinforce_plus_plus_matches_the_reference(oracle: dict[str, Any], mask_name: str) -> None:
    inputs = oracle["inputs"]
    cases = [c for c in oracle["advantages"] if (c["name"], c["mask"]) == ("reinforce_plus_plus", mask_name)]
    mask = inputs[mask_name].bool()
    close(
        compute_reinforce_plus_plus(inputs[cases[0]["rewards"]], mask, gamma=cases[0]["gamma"]),
        cases[0]["advantages"] * mask,
    )


LOSSES: dict[str, Callable[[dict[str, Any]], PolicyLoss]] = {
    "ppo_clip": lambda case: PPOClip(case["clip_low"], case["clip_high"], case["dual_clip"]),
    "gspo": lambda case: GSPO(case["clip_low"], case["clip_high"]),
    "cispo": lambda case: CISPO(case["clip_low"], case["clip_high"]),
    "sapo": lambda case: SAPO(case["tau_pos"], case["tau_neg"]),
    "gmpo": lambda case: GMPO(case["clip_low"], case["clip_high"]),
}
NUM_LOSSES = 18


@pytest.mark.parametrize("index", range(NUM_LOSSES))
def test_policy_losses_match_the_reference(oracle: dict[str, Any], index: int) -> None:
    assert len(oracle["losses"]) == NUM_LOSSES
    case, inputs = oracle["losses"][index], oracle["inputs"]
    name = case["name"]
    mask = inputs[case["mask"]].bool()
    log_probs = inputs["log_probs"].clone().requires_grad_()
    token = LOSSES[name](case)(log_probs, inputs["old_log_probs"], inputs["token_advantages"], mask)
    # The reference averages GMPO over answers whatever the mode; ours leaves that to the mode which does so.
    mode = "seq_mean_token_mean" if name == "gmpo" else case["aggregation"].replace("-", "_")
    loss = Aggregation(mode, HORIZON)(token.losses, mask, Denominators.of(mask))  # type: ignore[arg-type]
    loss.backward()
    close(loss.detach(), case["loss"])
    close(log_probs.grad, case["grad_log_probs"])
    old_log_probs = inputs["old_log_probs"]
    close(masked_mean(-clamped_log_ratio(log_probs.detach(), old_log_probs), mask), case["metrics"]["actor/ppo_kl"])
    if name not in ("gmpo", "sapo"):  # the reference counts GMPO's clipped tokens by the sign of the advantage
        close(masked_mean(token.metrics["actor/clip_fraction"], mask), case["metrics"]["actor/pg_clipfrac"])
    if name == "ppo_clip":
        lower = masked_mean(token.metrics["actor/dual_clip_fraction"], mask)
        close(lower, case["metrics"]["actor/pg_clipfrac_lower"])


@pytest.mark.parametrize("name", ["k1", "k2", "k3", "abs", "k1+", "k3+"])
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
