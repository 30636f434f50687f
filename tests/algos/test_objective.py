"""The objective that all backends call: splitting, padding and garbage outside the mask never matter."""

from __future__ import annotations

import math
from dataclasses import fields, replace

import pytest
import torch

from rlkit.algos.aggregation import Aggregation, Denominators
from rlkit.algos.objective import PolicyObjective, ValueObjective, explained_variance
from rlkit.algos.policy_losses.clip_cov import ClipCov
from rlkit.algos.policy_losses.kl_cov import KLCov
from rlkit.algos.policy_losses.ppo_clip import PPOClip
from rlkit.algos.policy_losses.token_losses import SelectingLoss, TokenLosses
from rlkit.types import Experience, Prompt, Ragged, Rollouts

LENGTHS = [3, 1, 4, 2, 5, 2]
MODES = ["token_mean", "seq_mean_token_sum", "seq_mean_token_mean", "seq_mean_token_sum_norm", "token_sum"]


def experience(seed: int = 0) -> tuple[Experience, Ragged, Ragged]:
    """An experience with a gap in one row's mask, and present log-probs and entropies for it."""
    generator = torch.Generator().manual_seed(seed)

    def ragged(scale: float = 1.0) -> Ragged:
        return Ragged(torch.randn(sum(LENGTHS), generator=generator) * scale, torch.tensor(LENGTHS))

    mask = Ragged(torch.ones(sum(LENGTHS), dtype=torch.bool), torch.tensor(LENGTHS))
    mask.values[5] = False
    rows = len(LENGTHS)
    ids = Ragged(torch.arange(sum(LENGTHS)), torch.tensor(LENGTHS))
    rollouts = Rollouts(
        prompt_ids=ids,
        response_ids=ids,
        response_mask=mask,
        rollout_log_probs=None,
        group_ids=torch.arange(rows),
        finish_reasons=("stop",) * rows,
        policy_version=0,
        prompts=tuple(Prompt(row_id=index, text="?") for index in range(rows)),
    )
    old = ragged()
    batch = Experience(
        rollouts=rollouts,
        old_log_probs=old,
        advantages=ragged(),
        loss_mask=mask,
        returns=ragged(),
        old_values=ragged(),
        ref_log_probs=old.with_values(old.values + ragged(0.3).values),
    )
    present = old.with_values((old.values + ragged(0.3).values).requires_grad_())
    return batch, present, ragged().with_values(torch.rand(sum(LENGTHS), generator=generator))


def objective(mode: str = "token_mean", **changes: float) -> PolicyObjective:
    settings = {"kl_loss": 0.1, "entropy_bonus": 0.01, **changes}
    return PolicyObjective(PPOClip(0.2, 0.28, 3.0), Aggregation(mode, 8), **settings)  # type: ignore[arg-type]


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("split", [[[0, 1, 2, 3, 4, 5]], [[0, 2], [4, 1, 5], [3]], [[5], [4], [3], [2], [1], [0]]])
def test_splitting_the_mini_batch_changes_neither_loss_nor_gradient(mode, split):
    batch, present, entropy = experience()
    denominators = Denominators.of(batch.loss_mask.padded(False))

    def run(parts):
        loss, metrics = torch.zeros(()), {}
        for rows in parts:
            part = batch.select(rows)
            chosen = present.select(rows).padded(0.0)
            share = objective(mode)(chosen, entropy.select(rows).padded(0.0), part, denominators)
            loss = loss + share.loss
            for name, value in share.metrics.items():
                metrics[name] = metrics.get(name, 0.0) + float(value)
        return loss, torch.autograd.grad(loss, present.values)[0], metrics

    whole, parts = run([list(range(6))]), run(split)
    torch.testing.assert_close(parts[0], whole[0])
    torch.testing.assert_close(parts[1], whole[1])
    assert parts[2] == pytest.approx(whole[2], rel=1e-5, abs=1e-6)


def test_what_stands_outside_the_mask_is_of_no_account():
    batch, present, entropy = experience()
    denominators = Denominators.of(batch.loss_mask.padded(False))
    clean = objective()(present.padded(0.0), entropy.padded(0.0), batch, denominators)
    (expected,) = torch.autograd.grad(clean.loss, present.values)
    for field in (batch.advantages, batch.old_log_probs, batch.ref_log_probs):
        field.values[5] = float("nan")
    spoilt = present.values.detach().clone()
    spoilt[5] = float("inf")
    spoilt.requires_grad_()
    dirty = objective()(
        present.with_values(spoilt).padded(float("nan")), entropy.padded(float("nan")), batch, denominators
    )
    (actual,) = torch.autograd.grad(dirty.loss, spoilt)
    torch.testing.assert_close(dirty.loss, clean.loss)
    torch.testing.assert_close(actual, expected)
    assert actual[5] == 0


def test_each_term_enters_with_its_coefficient():
    batch, present, entropy = experience()
    denominators = Denominators.of(batch.loss_mask.padded(False))

    def loss(**changes):
        return float(objective(**changes)(present.padded(0.0), entropy.padded(0.0), batch, denominators).loss.detach())

    plain = loss(kl_loss=0.0, entropy_bonus=0.0)
    kl = loss(kl_loss=1.0, entropy_bonus=0.0) - plain
    bonus = plain - loss(kl_loss=0.0, entropy_bonus=1.0)
    mask = batch.loss_mask.values
    assert kl > 0
    assert bonus == pytest.approx(float(entropy.values[mask].mean()), rel=1e-5)
    assert loss(kl_loss=0.3, entropy_bonus=0.2) == pytest.approx(plain + 0.3 * kl - 0.2 * bonus, rel=1e-5)


def test_importance_weights_scale_each_token():
    batch, present, entropy = experience()
    denominators = Denominators.of(batch.loss_mask.padded(False))
    settings = objective(kl_loss=0.0, entropy_bonus=0.0)
    plain = settings(present.padded(0.0), entropy.padded(0.0), batch, denominators).loss
    doubled = batch.old_log_probs.with_values(torch.full((sum(LENGTHS),), 2.0))
    weighted = Experience(**{**batch.__dict__, "importance_weights": doubled})
    torch.testing.assert_close(
        settings(present.padded(0.0), entropy.padded(0.0), weighted, denominators).loss, 2 * plain
    )


def test_the_value_objective_needs_returns():
    batch, present, _ = experience()
    without = Experience(**{**batch.__dict__, "returns": None})
    with pytest.raises(ValueError, match="returns and old values"):
        ValueObjective(0.2)(present.padded(0.0), without, Denominators(1.0, 1.0))


@pytest.mark.parametrize(("values", "expected"), [([1.0, 2.0, 4.0], 1.0), ([2.0, 2.0, 2.0], 0.0)])
def test_explained_variance_of_a_perfect_and_of_a_constant_critic(values, expected):
    returns, mask = torch.tensor([[1.0, 2.0, 4.0]]), torch.ones(1, 3, dtype=torch.bool)
    assert explained_variance(torch.tensor([values]), returns, mask) == pytest.approx(expected, abs=1e-6)


SELECTING: list[SelectingLoss] = [ClipCov(0.2, 0.28, 0.2, 0.01, 5.0), KLCov(0.2, 1.0)]


def in_float64(batch: Experience) -> Experience:
    changed = {field.name: getattr(batch, field.name) for field in fields(batch)}
    for name, value in changed.items():
        if isinstance(value, Ragged) and value.values.is_floating_point():
            changed[name] = value.with_values(value.values.double())
    return Experience(**changed)


def prepared(goal: PolicyObjective, batch: Experience, present: Ragged) -> Experience:
    """With the tokens that the loss chose of this batch."""
    result = goal.prepare(batch, lambda: present.with_values(present.values.detach()))
    assert result.selected is not None
    return result


def loss_and_gradient(
    goal: PolicyObjective, present: Ragged, entropy: Ragged, batch: Experience, parts: list[list[int]]
) -> tuple[torch.Tensor, torch.Tensor]:
    denominators = Denominators.of(batch.loss_mask.padded(False))
    loss = torch.zeros((), dtype=torch.float64)
    for rows in parts:
        share = goal(
            present.select(rows).padded(0.0), entropy.select(rows).padded(0.0), batch.select(rows), denominators
        )
        loss = loss + share.loss
    return loss.detach(), torch.autograd.grad(loss, present.values)[0]


@pytest.mark.parametrize("loss", SELECTING, ids=["clip_cov", "kl_cov"])
@pytest.mark.parametrize("mode", MODES)
def test_tokens_chosen_of_the_mini_batch_are_the_same_in_every_split(loss, mode):
    generator = torch.Generator().manual_seed(0)
    goal = PolicyObjective(loss, Aggregation(mode, 8))
    chosen_of_a_part_only = 0
    for seed in range(10):
        raw, present, entropy = experience(seed)
        present = present.with_values(present.values.detach().double().requires_grad_())
        entropy = entropy.with_values(entropy.values.double())
        batch = prepared(goal, in_float64(raw), present)
        expected = loss_and_gradient(goal, present, entropy, batch, [list(range(6))])
        order = torch.randperm(6, generator=generator).tolist()
        cut = 1 + seed % 5
        actual = loss_and_gradient(goal, present, entropy, batch, [order[:cut], order[cut:]])
        for ours, theirs in zip(actual, expected, strict=True):
            torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-12)
        rows = order[:cut]
        part = prepared(goal, in_float64(raw).select(rows), present.select(rows))
        chosen_of_a_part_only += not torch.equal(part.selected.values, batch.selected.select(rows).values)
    assert chosen_of_a_part_only  # else any loss would have passed


@pytest.mark.parametrize("loss", SELECTING, ids=["clip_cov", "kl_cov"])
def test_neither_order_nor_what_stands_outside_the_mask_changes_the_choice(loss):
    goal = PolicyObjective(loss, Aggregation())
    for seed in range(10):
        batch, present, _ = experience(seed)
        selected = prepared(goal, batch, present).selected
        assert selected.values.any()
        assert not selected.values[5]
        order = torch.randperm(6, generator=torch.Generator().manual_seed(seed)).tolist()
        moved = prepared(goal, batch.select(order), present.select(order)).selected
        assert torch.equal(moved.values, selected.select(order).values)
        for field in (batch.advantages, batch.old_log_probs, present):
            field.values.data[5] = float("nan")
        assert torch.equal(prepared(goal, batch, present).selected.values, selected.values)


def test_only_a_loss_that_chooses_tokens_costs_a_forward_pass():
    batch, _, _ = experience()

    def forward():
        raise AssertionError("nobody reads these log-probs")

    assert objective().prepare(batch, forward) is batch


def test_a_mini_batch_that_was_prepared_before_it_was_spread_comes_back_as_it_is():
    batch, _, _ = experience()
    chosen = replace(batch, selected=batch.loss_mask)

    def forward():
        raise AssertionError("the tokens have been chosen")

    assert PolicyObjective(KLCov(0.2, 1.0), Aggregation()).prepare(chosen, forward) is chosen


def test_a_loss_that_chooses_tokens_refuses_a_mini_batch_that_was_not_prepared():
    batch, present, entropy = experience()
    goal = PolicyObjective(KLCov(0.2, 1.0), Aggregation())
    with pytest.raises(ValueError, match="call prepare before it is split"):
        goal(present.padded(0.0), entropy.padded(0.0), batch, Denominators.of(batch.loss_mask.padded(False)))


def test_the_distance_from_the_old_policy_is_measured_for_every_loss():
    batch, present, entropy = experience()
    present.values.data[0] = float(batch.old_log_probs.values[0]) + 100.0

    def foreign(log_probs, old_log_probs, advantages, mask):
        return TokenLosses(-advantages * log_probs, {})

    share = PolicyObjective(foreign, Aggregation())(
        present.padded(0.0), entropy.padded(0.0), batch, Denominators.of(batch.loss_mask.padded(False))
    )
    mask = batch.loss_mask.values
    differences = (batch.old_log_probs.values - present.values.detach())[mask].tolist()
    expected = math.fsum(max(difference, -20.0) for difference in differences) / len(differences)
    assert float(share.metrics["actor/kl_to_old"]) == pytest.approx(expected, rel=1e-5)
    assert not share.metrics["actor/kl_to_old"].requires_grad


def test_a_choosing_loss_is_shown_zeros_outside_the_mask():
    seen = []

    class Everything:
        def select(self, log_probs, old_log_probs, advantages, mask):
            seen.extend([log_probs, old_log_probs, advantages])
            return mask

        def __call__(self, log_probs, old_log_probs, advantages, mask, selected=None):
            return TokenLosses(-advantages * log_probs, {})

    batch, present, _ = experience()
    for field in (batch.advantages, batch.old_log_probs, present):
        field.values.data[5] = float("nan")
    prepared(PolicyObjective(Everything(), Aggregation()), batch, present)
    mask = batch.loss_mask.padded(False)
    assert len(seen) == 3
    assert not any(tensor[~mask].any() or tensor.requires_grad for tensor in seen)
