"""Correction inside the loss: the importance-weighted policy gradient, row by row, whatever the split."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from rlkit.algos.aggregation import Aggregation, Denominators
from rlkit.algos.correction_in_update import CorrectionInUpdate
from rlkit.algos.objective import PolicyObjective
from rlkit.algos.policy_losses.gpg import GPG
from rlkit.algos.policy_losses.token_losses import TokenLosses
from rlkit.algos.rollout_correction import ImportanceWeights, Rejection
from rlkit.types import Experience, Prompt, Ragged, Rollouts

LENGTHS = (3, 5, 2, 4)
MODES = ("token_mean", "seq_mean_token_sum", "seq_mean_token_mean", "token_sum")


def experience(dtype: torch.dtype = torch.float64) -> Experience:
    """Four answers with a gap in the second; old log-probs are the engine's."""
    generator = torch.Generator().manual_seed(0)

    def random() -> Ragged:
        return Ragged.from_rows([torch.randn(n, generator=generator, dtype=dtype) for n in LENGTHS])

    responses = Ragged.from_rows([torch.zeros(n, dtype=torch.int64) for n in LENGTHS])
    mask = responses.with_values(torch.ones(responses.num_tokens, dtype=torch.bool))
    mask.values[5] = False
    engine = random()
    rollouts = Rollouts(
        prompt_ids=responses,
        response_ids=responses,
        response_mask=mask,
        rollout_log_probs=engine,
        group_ids=torch.arange(len(LENGTHS)),
        finish_reasons=("stop",) * len(LENGTHS),
        policy_version=0,
        prompts=tuple(Prompt(row_id=row, text="?") for row in range(len(LENGTHS))),
    )
    return Experience(rollouts=rollouts, old_log_probs=engine, advantages=random(), loss_mask=mask)


def loss_and_gradient(
    objective: PolicyObjective, batch: Experience, log_probs: torch.Tensor, rows: list[list[int]]
) -> tuple[float, torch.Tensor, dict[str, float]]:
    """Loss, gradient and metrics of `log_probs` [N], summed over micro-batches of the given rows."""
    leaf = batch.old_log_probs.with_values(log_probs.clone().requires_grad_())
    denominators = Denominators.of(batch.loss_mask.padded(False))
    total, metrics = 0.0, {}
    for chosen in rows:
        part, own = batch.select(chosen), leaf.select(chosen)
        share = objective(own.padded(0.0), torch.zeros_like(own.padded(0.0)), part, denominators)
        share.loss.backward()
        total += float(share.loss.detach())
        for name, value in share.metrics.items():
            metrics[name] = metrics.get(name, 0.0) + float(value)
    return total, leaf.values.grad, metrics


def present(batch: Experience, scale: float = 0.5) -> torch.Tensor:
    """The present policy's log-probs, a little off the engine's."""
    noise = torch.randn(sum(LENGTHS), generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    return batch.old_log_probs.values + scale * noise


def test_token_weights_give_the_importance_weighted_policy_gradient() -> None:
    batch = experience()
    log_probs = present(batch)
    objective = PolicyObjective(
        GPG(), Aggregation("token_sum"), correction=CorrectionInUpdate(ImportanceWeights("token", 1.5))
    )
    _, gradient, metrics = loss_and_gradient(objective, batch, log_probs, [[0, 1, 2, 3]])
    mask = batch.loss_mask.values
    weights = torch.exp(log_probs - batch.old_log_probs.values).clamp(max=1.5)
    torch.testing.assert_close(gradient, torch.where(mask, -weights * batch.advantages.values, 0.0))
    assert metrics["rollout/weight_mean"] == pytest.approx(float(weights[mask].mean()))
    assert metrics["rollout/rejected_fraction"] == 0


def test_an_answers_weight_is_the_ratio_of_the_whole_answer() -> None:
    batch = experience()
    log_probs = present(batch, 0.2)
    objective = PolicyObjective(
        GPG(), Aggregation("token_sum"), correction=CorrectionInUpdate(ImportanceWeights("sequence", 100.0))
    )
    _, gradient, _ = loss_and_gradient(objective, batch, log_probs, [[0, 1, 2, 3]])
    differences = torch.where(batch.loss_mask.values, log_probs - batch.old_log_probs.values, 0.0).split(LENGTHS)
    weights = torch.cat([part.sum().exp().expand(len(part)) for part in differences])
    expected = torch.where(batch.loss_mask.values, -weights * batch.advantages.values, 0.0)
    torch.testing.assert_close(gradient, expected)


@pytest.mark.parametrize("mode", MODES)
def test_the_split_into_micro_batches_changes_neither_loss_nor_gradient_nor_metrics(mode) -> None:
    batch = experience()
    log_probs = present(batch)
    correction = CorrectionInUpdate(
        ImportanceWeights("token", 5.0, 0.5, zero_outside=True), (Rejection("seq_mean", "k1", 1.3, 0.7),)
    )
    objective = PolicyObjective(GPG(), Aggregation(mode), correction=correction)
    whole = loss_and_gradient(objective, batch, log_probs, [[0, 1, 2, 3]])
    assert 0 < whole[2]["rollout/rejected_fraction"] < 1
    for rows in ([[0], [1], [2], [3]], [[3, 1], [0, 2]]):
        split = loss_and_gradient(objective, batch, log_probs, rows)
        assert split[0] == pytest.approx(whole[0], rel=1e-9)
        torch.testing.assert_close(split[1], whole[1], rtol=1e-9, atol=1e-12)
        assert split[2] == pytest.approx(whole[2], rel=1e-6)


def test_rejected_tokens_get_no_gradient_and_keep_their_place_in_the_denominators() -> None:
    batch = experience()
    log_probs = present(batch)
    rule = Rejection("token", "k1", 1.2, 0.0)
    plain = PolicyObjective(GPG(), Aggregation("token_mean"))
    corrected = replace(plain, correction=CorrectionInUpdate(rules=(rule,)))
    _, before, _ = loss_and_gradient(plain, batch, log_probs, [[0, 1, 2, 3]])
    _, after, _ = loss_and_gradient(corrected, batch, log_probs, [[0, 1, 2, 3]])
    kept = torch.exp(log_probs - batch.old_log_probs.values) <= 1.2
    assert 0 < int(kept.sum()) < len(kept)
    torch.testing.assert_close(after, torch.where(kept, before, 0.0))


def test_what_a_loss_leaves_in_rejected_tokens_is_of_no_account() -> None:
    def careless(log_probs, old_log_probs, advantages, mask):
        return TokenLosses(torch.where(mask, -advantages * log_probs, torch.nan), {})

    batch = experience()
    correction = CorrectionInUpdate(ImportanceWeights("token", 2.0), (Rejection("token", "k1", 1.2, 0.0),))
    losses = [
        loss_and_gradient(
            PolicyObjective(loss, Aggregation("token_mean"), correction=correction),
            batch,
            present(batch),
            [[0, 1], [2, 3]],
        )
        for loss in (GPG(), careless)
    ]
    assert losses[0][0] == pytest.approx(losses[1][0])
    torch.testing.assert_close(losses[0][1], losses[1][1])


def test_a_policy_that_is_the_engines_is_left_alone() -> None:
    batch = experience()
    plain = PolicyObjective(GPG(), Aggregation("token_mean"))
    correction = CorrectionInUpdate(ImportanceWeights("sequence", 2.0), (Rejection("seq_mean", "k1", 1.001, 0.999),))
    same = batch.old_log_probs.values
    before = loss_and_gradient(plain, batch, same, [[0, 1, 2, 3]])
    after = loss_and_gradient(replace(plain, correction=correction), batch, same, [[0, 1, 2, 3]])
    assert after[0] == before[0]
    assert torch.equal(after[1], before[1])


def test_the_weights_give_no_gradient_and_padding_is_of_no_account() -> None:
    batch = experience()
    correction = CorrectionInUpdate(ImportanceWeights("sequence", 2.0), (Rejection("seq_max", "k3", 9.0),))
    log_probs = batch.old_log_probs.with_values(present(batch)).padded(torch.nan).requires_grad_()
    mask = batch.loss_mask.padded(False)
    corrected = correction(log_probs, batch.old_log_probs.padded(torch.inf), mask)
    assert corrected.weights is not None
    assert not corrected.weights.requires_grad
    assert not corrected.weights[~mask].any()
    assert bool(corrected.weights.isfinite().all())


def test_weights_of_mean_1_are_refused() -> None:
    with pytest.raises(ValueError, match="cannot be normalised"):
        CorrectionInUpdate(ImportanceWeights("token", 2.0, normalise=True))
