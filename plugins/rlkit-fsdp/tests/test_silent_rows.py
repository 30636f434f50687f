from __future__ import annotations

from dataclasses import fields, replace

import torch
from rlkit_fsdp.actor import FSDPActor

from rlkit.algos.aggregation import Denominators
from rlkit.algos.objective import ObjectiveShare
from rlkit.data.silent_rows import silent_conversation, silent_experience
from rlkit.plugin import PluginKind
from rlkit.plugin.loader import load_plugin
from rlkit.testing import ContractContext
from rlkit.testing.backend_cases import made_up_experience, policy_objective, random_conversations


def experience_of(tmp_path):
    return made_up_experience(ContractContext(load_plugin(PluginKind.ACTOR_BACKEND, "fsdp"), tmp_path))


def test_a_row_has_the_fields_of_what_it_stands_for(tmp_path):
    full = experience_of(tmp_path)
    for like in (full, full.select([]), replace(full, returns=None, old_values=None)):
        row = silent_experience(like)
        assert len(row) == 1 and row.num_loss_tokens == 0
        for field in fields(like):
            assert (getattr(row, field.name) is None) == (getattr(like, field.name) is None)
        assert row.advantages.values.dtype == like.advantages.values.dtype


def test_a_row_weighs_nothing(role, tmp_path):
    """Neither in the loss nor in any metric, and every parameter gets a gradient of exactly zero."""
    row = silent_experience(experience_of(tmp_path).select([]))
    actor = FSDPActor(role())
    shares: list[ObjectiveShare] = []
    objective = policy_objective(entropy_bonus=0.1)

    def kept(*arguments) -> ObjectiveShare:
        shares.append(objective(*arguments))
        return shares[-1]

    kept.needs_entropy_gradient, kept.prepare = True, objective.prepare  # type: ignore[attr-defined]
    step, gradients = actor.optimizer.step, []

    def remember(**named):
        gradients.extend(parameter.grad for parameter in actor.module.parameters())
        return step(**named)

    actor.optimizer.step = remember  # type: ignore[method-assign]
    actor.update_policy(row, kept, temperature=1.0)
    assert shares[0].loss.item() == 0
    assert all(float(value) == 0 for value in shares[0].metrics.values())
    assert gradients and all(gradient is not None and not gradient.any() for gradient in gradients)
    assert Denominators.of(row.loss_mask.padded(False)) == Denominators(0, 0)


def test_a_conversation_has_nothing_to_learn(tmp_path):
    context = ContractContext(load_plugin(PluginKind.ACTOR_BACKEND, "fsdp"), tmp_path)
    batch = silent_conversation(random_conversations(context).select([]))
    assert (len(batch), batch.num_loss_tokens, batch.token_ids.num_tokens) == (1, 0, 1)
    assert batch.token_ids.values.dtype == torch.int64
