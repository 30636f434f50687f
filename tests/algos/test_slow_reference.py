"""rlkit against plain Python loops for many seeds and shapes, and those loops against the reference file.

The loops (`cases/slow_*.py`) were written from the papers; where the file has a case, they must give its numbers too.
"""

from __future__ import annotations

from typing import Any

import estimator_cases
import loss_cases
import pytest
import slow_correction
import slow_estimators as slow
import slow_losses
import torch
from torch import Tensor

from rlkit.algos.aggregation import Aggregation, Denominators
from rlkit.algos.kl import compute_kl
from rlkit.algos.rollout_correction import ImportanceWeights, Rejection, apply_rejections, rollout_log_ratio
from rlkit.algos.value_loss import compute_value_losses

SHAPES = [((4, 3, 1, 2), 7), ((2, 2), 1), ((8,), 12), ((1, 1, 3), 4)]
"""Answers to each prompt, and the width of the batch in tokens."""
CASES = [(seed, *shape, torch.float64) for seed in range(3) for shape in SHAPES] + [
    (3, *SHAPES[0], torch.float32),
    (4, *SHAPES[2], torch.float32),
]
LENGTHS = [(5, 1, 7, 2, 6, 3), (1,), (4, 4), (3, 1, 12, 2, 2, 8, 1, 5)]
HORIZON = 16  # width of the reference tensors


def close(actual: Any, expected: Any) -> None:
    actual = torch.as_tensor(actual)
    strict = {"rtol": 1e-9, "atol": 1e-12} if actual.dtype == torch.float64 else {"rtol": 1e-5, "atol": 1e-6}
    torch.testing.assert_close(actual, torch.as_tensor(expected, dtype=actual.dtype), **strict)


def slow_estimate(name: str, arguments: dict[str, Any]) -> tuple[slow.Rows, slow.Rows | None]:
    """The slow estimator's advantages and returns."""
    rewards, mask, groups = arguments["rewards"], arguments["mask"], arguments["groups"]
    options = estimator_cases.OPTIONS.get(name, {})
    match name:
        case "gae":
            return slow.gae(rewards, arguments["values"], mask, **options)
        case "reinforce_plus_plus":
            return slow.reinforce_plus_plus(rewards, mask, **options), None
        case "remax":
            return slow.remax(rewards, mask, arguments["greedy"]), None
        case "gdpo":
            return slow.gdpo(arguments["parts"], list(estimator_cases.PART_WEIGHTS), mask, groups), None
        case "optimal_token_baseline":
            log_probs, distributions = arguments["log_probs"], arguments["distributions"]
            return slow.optimal_token_baseline(rewards, mask, groups, log_probs, distributions), None
    return getattr(slow, name)(rewards, mask, groups), None


@pytest.mark.parametrize("name", estimator_cases.ESTIMATORS)
@pytest.mark.parametrize("case", CASES, ids=str)
def test_estimators_agree_with_the_loops(name: str, case: tuple[Any, ...]) -> None:
    seed, groups, width, dtype = case
    inputs, distributions = estimator_cases.random_inputs(seed, groups=groups, width=width, dtype=dtype)
    advantages, returns = slow_estimate(
        name,
        {
            "rewards": inputs.token_rewards.tolist(),
            "mask": inputs.mask.tolist(),
            "groups": inputs.group_ids.tolist(),
            "values": inputs.values.tolist(),
            "greedy": inputs.greedy_scores.tolist(),
            "parts": inputs.part_scores.tolist(),
            "log_probs": inputs.old_log_probs.tolist(),
            "distributions": distributions.tolist(),
        },
    )
    actual, targets = estimator_cases.estimator(name)(inputs)
    loose = 1e-6 if name == "optimal_token_baseline" and dtype == torch.float64 else 0.0  # for its floor of the weights
    torch.testing.assert_close(actual, torch.tensor(advantages, dtype=dtype), **tolerance(dtype, loose))
    assert (targets is None) == (returns is None)
    if targets is not None:
        close(targets, returns)


def tolerance(dtype: torch.dtype, loose: float) -> dict[str, float]:
    if dtype == torch.float32:
        return {"rtol": 1e-5, "atol": 1e-6}
    return {"rtol": max(1e-9, loose), "atol": max(1e-12, loose / 10)}


@pytest.mark.parametrize("mask_name", ["response_mask", "response_mask_with_gap"])
def test_the_slow_estimators_give_the_reference_values(oracle: dict[str, Any], mask_name: str) -> None:
    inputs = oracle["inputs"]
    mask = inputs[mask_name].bool()
    checked = 0
    for case in oracle["advantages"]:
        if case["mask"] != mask_name:
            continue
        rewards = inputs[case["rewards"]]
        if case["name"] in estimator_cases.BY_GROUP:  # the file scores an answer by all its rewards
            scores = torch.zeros_like(rewards)
            scores[:, 0] = rewards.sum(dim=1)
            rewards = scores
        arguments = {
            "rewards": rewards.tolist(),
            "mask": mask.tolist(),
            "groups": case.get("group_ids", inputs["group_ids"]),
            "values": inputs["values"].tolist(),
            "greedy": inputs["greedy_rewards"].tolist(),
        }
        advantages, returns = slow_estimate(case["name"], arguments)
        close(case["advantages"] * mask, advantages)
        if returns is not None:
            close(case["returns"] * mask, returns)
        checked += 1
    assert checked >= 9


def arguments_of(name: str, case: dict[str, Any]) -> dict[str, float]:
    """The file's settings of a loss by rlkit's names."""
    if name == "sapo":
        return {"tau_positive": case["tau_pos"], "tau_negative": case["tau_neg"]}
    return {key: case[key] for key in ("clip_low", "clip_high", "dual_clip")}


def test_the_slow_losses_give_the_reference_values_and_gradients(oracle: dict[str, Any]) -> None:
    inputs = oracle["inputs"]
    rows = tuple(inputs[key].tolist() for key in ("log_probs", "old_log_probs", "token_advantages"))
    for case in oracle["losses"]:
        mask = inputs[case["mask"]].bool().tolist()
        # The file averages GMPO over answers whatever the mode.
        mode = "seq_mean_token_mean" if case["name"] == "gmpo" else case["aggregation"].replace("-", "_")
        weights = slow_losses.token_weights(mask, mode, HORIZON)
        loss, gradient = slow_losses.policy_loss(case["name"], rows, mask, arguments_of(case["name"], case), weights)
        close(torch.tensor(case["loss"]), loss)
        close(case["grad_log_probs"], gradient)


@pytest.mark.parametrize("name", slow_losses.LOSSES)
@pytest.mark.parametrize("lengths", LENGTHS, ids=str)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
def test_losses_agree_with_the_loops(name: str, lengths: tuple[int, ...], dtype: torch.dtype) -> None:
    for seed in range(3):
        batch, present, _ = loss_cases.mini_batch(seed, lengths, dtype=dtype)
        mask = batch.loss_mask.padded(False)
        log_probs, old, advantages = (
            ragged.padded(0.0).where(mask, 0.0) for ragged in (present, batch.old_log_probs, batch.advantages)
        )
        log_probs.requires_grad_()
        for mode in loss_cases.allowed_modes(name):
            token = loss_cases.policy_loss(name)(log_probs, old, advantages, mask)
            loss = Aggregation(mode, HORIZON)(token.losses, mask, Denominators.of(mask))
            (gradient,) = torch.autograd.grad(loss, log_probs)
            weights = slow_losses.token_weights(mask.tolist(), mode, HORIZON)
            rows = (log_probs.tolist(), old.tolist(), advantages.tolist())
            options = loss_cases.OPTIONS.get(name, {})
            expected, slopes = slow_losses.policy_loss(name, rows, mask.tolist(), options, weights)
            close(loss.detach(), expected)
            close(gradient, slopes)


@pytest.mark.parametrize("name", ["clip_cov", "kl_cov"])
@pytest.mark.parametrize("lengths", LENGTHS[2:], ids=str)
def test_losses_that_choose_tokens_agree_with_the_loops(name: str, lengths: tuple[int, ...]) -> None:
    # With room for all candidates, clip_cov draws no lots.
    fraction = 1.0 if name == "clip_cov" else 0.2
    options = {**loss_cases.OPTIONS[name], "fraction": fraction}
    for seed in range(3):
        batch, present, _ = loss_cases.mini_batch(seed, lengths)
        mask = batch.loss_mask.padded(False)
        log_probs, old, advantages = (ragged.padded(0.0) for ragged in (present, batch.old_log_probs, batch.advantages))
        rows = [values[mask].tolist() for values in (log_probs, old, advantages)]
        losses, slopes = slow_losses.cov_losses(name, *rows, options, fraction=fraction)
        log_probs.requires_grad_()
        token = loss_cases.policy_loss(name, **options)(log_probs, old, advantages, mask)
        (gradient,) = torch.autograd.grad(token.losses[mask].sum(), log_probs)
        close(token.losses[mask].detach(), losses)
        close(gradient[mask], slopes)


def test_every_loss_has_its_loops() -> None:
    assert {*slow_losses.LOSSES, "clip_cov", "kl_cov"} == set(loss_cases.LOSSES)


@pytest.mark.parametrize("estimator", ["k1", "k2", "k3", "abs", "k1+", "k2+", "k3+", "abs+"])
def test_kl_estimators_agree_with_the_loops(oracle: dict[str, Any], estimator: str) -> None:
    def by_loops(present: Tensor, reference: Tensor) -> tuple[list[float], list[float]]:
        pairs = zip(present.flatten().tolist(), reference.flatten().tolist(), strict=True)
        values = [slow_losses.kl(p, q, estimator) for p, q in pairs]
        return [value for value, _ in values], [slope for _, slope in values]

    inputs = oracle["inputs"]
    for case in oracle["kl"]:
        if case["name"] == estimator:
            value, slope = by_loops(inputs["log_probs"], inputs["ref_log_probs"])
            close(case["value"].flatten(), value)
            close(case["grad_log_probs"].flatten(), slope)
    for seed, dtype in ((0, torch.float64), (1, torch.float64), (2, torch.float32)):
        batch, present, _ = loss_cases.mini_batch(seed, dtype=dtype)
        leaf, reference = present.values.requires_grad_(), batch.ref_log_probs.values
        kl = compute_kl(leaf, reference, estimator)
        value, slope = by_loops(leaf, reference)
        close(kl.detach(), value)
        close(torch.autograd.grad(kl.sum(), leaf)[0], slope)


@pytest.mark.parametrize("mode", loss_cases.MODES)
def test_aggregations_agree_with_the_loops(oracle: dict[str, Any], mode: str) -> None:
    (case,) = [case for case in oracle["aggregation"] if case["mode"].replace("-", "_") == mode]
    batches = [(oracle["inputs"][case["matrix"]], oracle["inputs"][case["mask"]].bool())]
    for seed, lengths in enumerate(LENGTHS):
        batch, _, _ = loss_cases.mini_batch(seed, lengths)
        batches.append((batch.advantages.padded(7.0), batch.loss_mask.padded(False)))
    for index, (matrix, mask) in enumerate(batches):
        weights = torch.tensor(slow_losses.token_weights(mask.tolist(), mode, HORIZON), dtype=matrix.dtype)
        expected = (weights * matrix).sum()
        close(Aggregation(mode, HORIZON)(matrix, mask, Denominators.of(mask)), expected)  # type: ignore[arg-type]
        if index == 0:
            close(torch.tensor(case["value"]), expected)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
def test_the_value_loss_agrees_with_the_loops(oracle: dict[str, Any], dtype: torch.dtype) -> None:
    inputs, (case,) = oracle["inputs"], oracle["value_loss"]
    mask = inputs["response_mask"].bool()
    batches = [tuple(inputs[key][mask] for key in ("value_preds", "values", "returns"))]
    for seed in range(3):
        generator = torch.Generator().manual_seed(seed)
        batches.append(tuple(torch.randn(30, generator=generator, dtype=dtype) for _ in range(3)))
    for index, (values, old, targets) in enumerate(batches):
        leaf = values.clone().requires_grad_()
        losses, _ = compute_value_losses(leaf, old, targets, clip=case["clip"])
        (gradient,) = torch.autograd.grad(losses.sum(), leaf)
        pairs = [
            slow_losses.value_loss(*token, case["clip"])
            for token in zip(values.tolist(), old.tolist(), targets.tolist(), strict=True)
        ]
        close(losses.detach(), [loss for loss, _ in pairs])
        close(gradient, [slope for _, slope in pairs])
        if index == 0:
            close(torch.tensor(case["loss"]), sum(loss for loss, _ in pairs) / len(pairs))
            close(case["grad"][mask] * len(pairs), [slope for _, slope in pairs])


LEVELS = [(level, low, high) for level in ("token", "sequence") for low, high in ((0.0, 1.3), (0.8, 1.25))]
RULES = [
    (level, divergence, 0.9 if divergence == "k1" else 0.0, {"k1": 1.15, "k2": 0.02, "k3": 0.02}[divergence])
    for level in ("token", "seq_sum", "seq_mean", "seq_max")
    for divergence in ("k1", "k2", "k3")
]


@pytest.mark.parametrize("lengths", LENGTHS, ids=str)
def test_rollout_correction_agrees_with_the_loops(lengths: tuple[int, ...]) -> None:
    batch, present, _ = loss_cases.mini_batch(0, lengths)
    mask = batch.loss_mask.padded(False)
    engine = present.with_values(present.values + 0.3 * (batch.ref_log_probs.values - batch.old_log_probs.values))
    log_ratio = rollout_log_ratio(present.padded(0.0), engine.padded(0.0), mask)
    for level, low, high in LEVELS:
        for normalise in (False, True):
            made = ImportanceWeights(level, high, low, zero_outside=low > 0, normalise=normalise)  # type: ignore[arg-type]
            expected = slow_correction.weights(
                log_ratio.tolist(), mask.tolist(), level, low=low, high=high, zero_outside=low > 0, normalise=normalise
            )
            close(made(log_ratio, mask), expected)
    for level, divergence, low, high in RULES:
        kept = apply_rejections(log_ratio, mask, [Rejection(level, divergence, high, low)])  # type: ignore[arg-type]
        expected_kept = slow_correction.kept(log_ratio.tolist(), mask.tolist(), level, divergence, low=low, high=high)
        assert kept.tolist() == expected_kept


def test_the_slow_correction_gives_the_reference_values(oracle: dict[str, Any]) -> None:
    inputs = oracle["inputs"]
    mask = inputs["response_mask"].bool()
    log_ratio = (inputs["old_log_probs"] - inputs["rollout_log_probs"]).where(mask, 0.0).tolist()
    for case in oracle["rollout_correction"]:
        if case["is"] is not None:
            bounds = case["is_threshold"]
            low, high = map(float, bounds.split("_")) if isinstance(bounds, str) else (0.0, float(bounds))
            settings = {"zero_outside": isinstance(bounds, str), "normalise": case["batch_normalize"]}
            close(
                case["weights"],
                slow_correction.weights(log_ratio, mask.tolist(), case["is"], low=low, high=high, **settings),
            )
        if case["rs"] is not None:
            level, _, divergence = case["rs"].rpartition("_")
            bounds = case["rs_threshold"]
            low, high = map(float, bounds.split("_")) if isinstance(bounds, str) else (0.0, float(bounds))
            kept = slow_correction.kept(log_ratio, mask.tolist(), level, divergence, low=low, high=high)
            assert kept == case["mask"].bool().tolist()
