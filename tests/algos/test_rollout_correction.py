"""Importance weights and rejection against reference values, and what must hold of them."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from rlkit.algos.rollout_correction import (
    ImportanceWeights,
    Rejection,
    apply_rejections,
    correction_metrics,
    rollout_log_ratio,
)

NUM_CASES = 36


def bounds(text: Any) -> tuple[float, float, bool]:
    """(low, high, zero outside) of the reference's threshold: a number, or "lo_hi"."""
    if isinstance(text, str):
        low, high = map(float, text.split("_"))
        return low, high, True
    return 0.0, float(text), False


def weights_of(case: dict[str, Any]) -> ImportanceWeights | None:
    if case["is"] is None:
        return None
    low, high, zero = bounds(case["is_threshold"])
    return ImportanceWeights(case["is"], high, low, zero_outside=zero, normalise=case["batch_normalize"])


def rules_of(case: dict[str, Any]) -> list[Rejection]:
    if case["rs"] is None:
        return []
    level, _, divergence = case["rs"].rpartition("_")
    low, high, _ = bounds(case["rs_threshold"])
    return [Rejection(level, divergence, high, low)]


def ratios(oracle: dict[str, Any]) -> tuple[torch.Tensor, torch.Tensor]:
    inputs = oracle["inputs"]
    mask = inputs["response_mask"].bool()
    return rollout_log_ratio(inputs["old_log_probs"], inputs["rollout_log_probs"], mask), mask


def test_weights_and_rejection_match_the_reference(oracle: dict[str, Any]) -> None:
    log_ratio, mask = ratios(oracle)
    cases = oracle["rollout_correction"]
    assert len(cases) >= NUM_CASES
    for case in cases:
        made = weights_of(case)
        if made is not None:
            torch.testing.assert_close(made(log_ratio, mask), case["weights"], rtol=1e-5, atol=1e-6)
        assert torch.equal(apply_rejections(log_ratio, mask, rules_of(case)), case["mask"].bool())


def test_diagnostics_match_the_reference(oracle: dict[str, Any]) -> None:
    inputs = oracle["inputs"]
    log_ratio, mask = ratios(oracle)
    for case in oracle["rollout_correction"]:
        made = weights_of(case)
        weights = None if made is None else made(log_ratio, mask)
        kept = apply_rejections(log_ratio, mask, rules_of(case))
        metrics = correction_metrics(inputs["old_log_probs"], inputs["rollout_log_probs"], mask, weights, kept)
        reference = case["metrics"]
        names = {
            "rollout/kl": "kl",
            "rollout/kl_k3": "k3_kl",
            "rollout/perplexity": "rollout_ppl",
            "rollout/trainer_perplexity": "training_ppl",
            "rollout/chi2_tokens": "chi2_token",
            "rollout/chi2_answers": "chi2_seq",
        }
        for ours, theirs in names.items():
            assert metrics[ours] == pytest.approx(reference[f"rollout_corr/{theirs}"], rel=1e-4, abs=1e-6), ours
        if case["rs"] is not None:
            expected = reference["rollout_corr/rollout_rs_masked_fraction"]
            assert metrics["rollout/rejected_fraction"] == pytest.approx(expected, abs=1e-6)


def test_an_engine_that_agrees_needs_no_correction() -> None:
    log_probs = -torch.rand(3, 4, generator=torch.Generator().manual_seed(0))
    mask = torch.tensor([[1, 1, 1, 0], [1, 0, 1, 1], [1, 1, 0, 0]], dtype=torch.bool)
    log_ratio = rollout_log_ratio(log_probs, log_probs, mask)
    for level in ("token", "sequence"):
        assert torch.equal(ImportanceWeights(level, 2.0)(log_ratio, mask), mask.float())
    rules = [Rejection("token", "k1", 1.1, 0.9), Rejection("seq_max", "k3", 0.01)]
    assert torch.equal(apply_rejections(log_ratio, mask, rules), mask)
    metrics = correction_metrics(log_probs, log_probs, mask, None, mask)
    assert metrics["rollout/kl"] == metrics["rollout/chi2_tokens"] == metrics["rollout/rejected_fraction"] == 0
    assert metrics["rollout/correlation"] == pytest.approx(1)


def test_what_stands_outside_the_mask_is_of_no_account() -> None:
    mask = torch.tensor([[True, False, True]])
    clean = rollout_log_ratio(torch.tensor([[-1.0, 0.0, -2.0]]), torch.tensor([[-1.2, 0.0, -1.7]]), mask)
    dirty = rollout_log_ratio(
        torch.tensor([[-1.0, float("nan"), -2.0]]), torch.tensor([[-1.2, float("inf"), -1.7]]), mask
    )
    assert torch.equal(clean, dirty)
    assert ImportanceWeights("sequence", 5.0)(clean, mask)[0, 1] == 0


def test_truncation_cuts_and_icepop_zeroes() -> None:
    log_ratio, mask = torch.log(torch.tensor([[0.5, 1.0, 4.0]])), torch.ones(1, 3, dtype=torch.bool)
    assert ImportanceWeights("token", 2.0)(log_ratio, mask).tolist() == [[0.5, 1.0, 2.0]]
    assert ImportanceWeights("token", 2.0, 0.8, zero_outside=True)(log_ratio, mask).tolist() == [[0.0, 1.0, 0.0]]
    normalised = ImportanceWeights("token", 2.0, normalise=True)(log_ratio, mask)
    assert float(normalised.mean()) == pytest.approx(1)


def test_one_bad_token_rejects_its_answer_only() -> None:
    log_ratio = torch.tensor([[0.0, 3.0], [0.0, 0.1]])
    mask = torch.ones(2, 2, dtype=torch.bool)
    assert Rejection("seq_max", "k2", 0.5)(log_ratio, mask).tolist() == [[False, False], [True, True]]
    assert Rejection("token", "k2", 0.5)(log_ratio, mask).tolist() == [[True, False], [True, True]]


def test_wholly_rejected_weights_do_not_divide_by_zero() -> None:
    log_ratio, mask = torch.full((1, 2), 5.0), torch.ones(1, 2, dtype=torch.bool)
    assert not ImportanceWeights("token", 2.0, 0.5, zero_outside=True, normalise=True)(log_ratio, mask).any()
