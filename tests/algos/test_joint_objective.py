"""Policy and value loss as one: each part is what it is alone, and splitting never matters."""

from __future__ import annotations

import pytest
import torch

from rlkit.algos.aggregation import Aggregation, Denominators
from rlkit.algos.joint_objective import JointObjective
from rlkit.algos.objective import PolicyObjective, ValueObjective
from rlkit.algos.policy_losses.kl_cov import KLCov
from rlkit.algos.policy_losses.ppo_clip import PPOClip
from rlkit.types import Experience, Prompt, Ragged, Rollouts

LENGTHS = [3, 1, 4, 2]
TOKENS = sum(LENGTHS)
POLICY = PolicyObjective(PPOClip(0.2, 0.2, 3.0), Aggregation("seq_mean_token_mean"), entropy_bonus=0.01)
VALUE = ValueObjective(0.2)


@pytest.fixture
def batch():
    generator = torch.Generator().manual_seed(0)

    def ragged(values=None):
        noise = torch.randn(TOKENS, generator=generator, dtype=torch.float64)
        return Ragged(noise if values is None else values, torch.tensor(LENGTHS))

    mask = ragged(torch.arange(TOKENS) != 5)
    ids = ragged(torch.arange(TOKENS))
    rollouts = Rollouts(
        prompt_ids=ids,
        response_ids=ids,
        response_mask=mask,
        rollout_log_probs=None,
        group_ids=torch.arange(len(LENGTHS)),
        finish_reasons=("stop",) * len(LENGTHS),
        policy_version=0,
        prompts=tuple(Prompt(row_id=row, text="?") for row in range(len(LENGTHS))),
    )
    return Experience(
        rollouts=rollouts,
        old_log_probs=ragged(),
        advantages=ragged(),
        loss_mask=mask,
        returns=ragged(),
        old_values=ragged(),
    )


def present(batch, seed=1):
    """Leaves: log-probs, entropy and values, [N] float64 each."""
    generator = torch.Generator().manual_seed(seed)
    noise = [torch.randn(TOKENS, generator=generator, dtype=torch.float64) for _ in range(3)]
    leaves = batch.old_log_probs.values + 0.1 * noise[0], noise[1].abs(), noise[2]
    return [leaf.detach().requires_grad_() for leaf in leaves]


def padded(batch, tensor):
    return batch.old_log_probs.with_values(tensor).padded(0.0)


def test_loss_and_gradients_are_the_weighted_sum_of_the_parts(batch):
    denominators = Denominators.of(batch.loss_mask.padded(False))
    log_probs, entropy, values = present(batch)
    columns = [padded(batch, tensor) for tensor in (log_probs, entropy, values)]
    joint = JointObjective(POLICY, VALUE, 0.25)(*columns, batch, denominators)
    joint.loss.backward()
    alone = present(batch)
    policy = POLICY(padded(batch, alone[0]), padded(batch, alone[1]), batch, denominators)
    value = VALUE(padded(batch, alone[2]), batch, denominators)
    policy.loss.backward()
    value.loss.backward()
    torch.testing.assert_close(joint.loss, policy.loss + 0.25 * value.loss)
    torch.testing.assert_close(log_probs.grad, alone[0].grad)
    torch.testing.assert_close(entropy.grad, alone[1].grad)
    torch.testing.assert_close(values.grad, 0.25 * alone[2].grad)
    assert dict(joint.metrics) == {**policy.metrics, **value.metrics}


@pytest.mark.parametrize("parts", [[[0, 1, 2, 3]], [[2, 0], [1, 3]], [[0], [1], [2], [3]]])
def test_shares_add_up_however_the_mini_batch_is_split(batch, parts):
    objective = JointObjective(POLICY, VALUE, 0.5)
    denominators = Denominators.of(batch.loss_mask.padded(False))
    whole, split = present(batch), present(batch)
    objective(*(padded(batch, tensor) for tensor in whole), batch, denominators).loss.backward()
    for rows in parts:
        part = batch.select(rows)
        columns = [batch.old_log_probs.with_values(tensor).select(rows).padded(0.0) for tensor in split]
        objective(*columns, part, denominators).loss.backward()
    for left, right in zip(whole, split, strict=True):
        torch.testing.assert_close(left.grad, right.grad, rtol=1e-9, atol=1e-12)


def test_losses_that_choose_tokens_choose_of_the_whole_mini_batch(batch):
    objective = JointObjective(PolicyObjective(KLCov(0.2, 1.0), Aggregation("token_mean")), VALUE, 0.5)
    prepared = objective.prepare(batch, lambda: batch.old_log_probs)
    assert prepared.selected is not None
    assert JointObjective(POLICY, VALUE, 0.5).prepare(batch, lambda: batch.old_log_probs) is batch
