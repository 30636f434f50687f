"""The numbers of the FSDP backend on one CUDA device: float32 to rounding, bfloat16 to its eight bits."""

from __future__ import annotations

import pytest
import torch
from rlkit_megatron.backend import MegatronBackend

from rlkit.plugin import PluginKind
from rlkit.plugin.loader import load_plugin
from rlkit.testing import ContractContext
from rlkit.testing.backend_cases import made_up_experience, policy_objective, random_conversations

pytestmark = pytest.mark.gpu


@pytest.fixture
def context(tmp_path):
    if not torch.cuda.is_available():
        pytest.skip("torch sees no CUDA device")
    return ContractContext(load_plugin(PluginKind.ACTOR_BACKEND, "fsdp"), tmp_path)


@pytest.mark.parametrize(("dtype", "tolerance"), [("float32", 1e-4), ("bfloat16", 1e-2)])
def test_four_steps_on_the_gpu_are_those_of_fsdp(context, role, dtype, tolerance):
    made = role(device="cuda", dtype=dtype)
    experience, batch = made_up_experience(context), random_conversations(context)
    found = []
    for backend in (context.build(), MegatronBackend()):
        actor, trainee = backend.build_actor(made), backend.build_supervised(made)
        losses = []
        for _ in range(4):
            losses.append(actor.update_policy(experience, policy_objective(), temperature=1.0)["actor/loss"])
            losses.append(trainee.update_supervised(batch)["sft/loss"])
        weights = {name: tensor.float().cpu() for name, tensor in actor.export_weights()}
        found.append((losses, weights))
    (losses, weights), (other_losses, other_weights) = found
    assert other_losses == pytest.approx(losses, rel=tolerance, abs=tolerance)
    for name, weight in weights.items():
        torch.testing.assert_close(other_weights[name], weight, rtol=tolerance, atol=tolerance, msg=name)


def test_memory_is_given_back_and_the_numbers_stay(context, role):
    experience = made_up_experience(context)
    ends = []
    for offloaded in (False, True):
        actor = MegatronBackend().build_actor(role(device="cuda"))
        actor.update_policy(experience, policy_objective(), temperature=1.0)
        if offloaded:
            before = torch.cuda.memory_allocated()
            actor.offload()
            assert torch.cuda.memory_allocated() < before
            actor.onload()
        actor.update_policy(experience, policy_objective(), temperature=1.0)
        ends.append(dict(actor.export_weights()))
    assert all(torch.equal(weight, ends[1][name]) for name, weight in ends[0].items())
