"""The objective that all backends call: splitting, padding and garbage outside the mask never matter."""

from __future__ import annotations

import pytest
import torch

from rlkit.algos.aggregation import Aggregation, Denominators
from rlkit.algos.objective import PolicyObjective, ValueObjective, explained_variance
from rlkit.algos.policy_losses.ppo_clip import PPOClip
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
