"""Actor and critic on one network, and that their contract finds faults."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from rlkit_fsdp.actor_critic import FSDPActorCritic
from rlkit_fsdp.backend import FSDPBackend

from rlkit.algos.joint_objective import JointObjective
from rlkit.protocols.actor import LoraSettings, ModelRole, OptimizerSettings
from rlkit.testing.backend_cases import made_up_experience, policy_objective, random_rollouts, value_objective
from rlkit.testing.contracts import actor_critics as contract
from rlkit.testing.tiny_model import tiny_model


class StartsWithAnOpinion(FSDPActorCritic):
    def __init__(self, role: ModelRole, *, head: OptimizerSettings) -> None:
        super().__init__(role, head=head)
        torch.nn.init.constant_(self.root.score.weight, 0.1)


class HeadOnTheTrunksSchedule(FSDPActorCritic):
    def __init__(self, role: ModelRole, *, head: OptimizerSettings) -> None:
        assert role.optimizer is not None
        super().__init__(role, head=replace(role.optimizer, lr=head.lr))


class DetachesTheTrunk(FSDPActorCritic):
    def __init__(self, role: ModelRole, *, head: OptimizerSettings) -> None:
        super().__init__(role, head=head)
        values = self.root.values
        self.root.values = lambda hidden: values(hidden.detach())  # type: ignore[method-assign]


class ForgetsTheTemperatureOfBoth(FSDPActorCritic):
    def compute_log_probs_and_values(self, rollouts: Any, *, temperature: float, **asked: Any) -> Any:
        return super().compute_log_probs_and_values(rollouts, temperature=1.0, **asked)


class WarmsUpEverything(FSDPActorCritic):
    def update_head(self, experience: Any, objective: Any) -> dict[str, float]:
        policy = policy_objective()
        silent = experience.advantages.with_values(0.0 * experience.advantages.values)
        joint = JointObjective(policy, objective, 1.0)
        return self.update_jointly(replace(experience, advantages=silent), joint, temperature=1.0)


class NeverLearnsValues(FSDPActorCritic):
    def update_jointly(self, experience: Any, objective: Any, *, temperature: float) -> dict[str, float]:
        before = self.root.score.weight.detach().clone()
        metrics = super().update_jointly(experience, objective, temperature=temperature)
        with torch.no_grad():
            self.root.score.weight.copy_(before)
        return metrics


class CountsTokensOfEachPart(FSDPActorCritic):
    """Averages over micro-batches: the well-known mistake."""

    def update_jointly(self, experience: Any, objective: Any, *, temperature: float) -> dict[str, float]:
        def averaged(log_probs: Any, entropy: Any, values: Any, part: Any, _: Any) -> Any:
            from rlkit.algos.aggregation import Denominators

            return objective(log_probs, entropy, values, part, Denominators.of(part.loss_mask.padded(False)))

        averaged.prepare = objective.prepare  # type: ignore[attr-defined]
        averaged.needs_entropy_gradient = False  # type: ignore[attr-defined]
        return super().update_jointly(experience, averaged, temperature=temperature)  # type: ignore[arg-type]


class ForgetsTheHeadsMoments(FSDPActorCritic):
    def load(self, folder: Path) -> None:
        super().load(folder)
        self.head_optimizer._adamw.state.clear()


class LosesTheHeadOnTheWay(FSDPActorCritic):
    def offload(self) -> None:
        torch.nn.init.zeros_(self.root.score.weight)


class ExportsTheHead(FSDPActorCritic):
    def export_weights(self) -> Any:
        yield from super().export_weights()
        yield "score.weight", self.root.score.weight


FAULTS: dict[Any, type[FSDPActorCritic]] = {
    contract.a_new_head_knows_nothing_and_leaves_the_policy_alone: StartsWithAnOpinion,
    contract.the_value_loss_teaches_the_trunk: DetachesTheTrunk,
    contract.one_pass_gives_log_probs_and_values: ForgetsTheTemperatureOfBoth,
    contract.the_head_alone_learns_in_its_warm_up: WarmsUpEverything,
    contract.the_head_is_on_a_schedule_of_its_own: HeadOnTheTrunksSchedule,
    contract.joint_updates_learn_the_returns: NeverLearnsValues,
    contract.splitting_the_mini_batch_leaves_the_joint_update_alone: CountsTokensOfEachPart,
    contract.a_saved_actor_critic_goes_on_with_the_same_bits: ForgetsTheHeadsMoments,
    contract.an_offloaded_actor_critic_comes_back_as_it_was: LosesTheHeadOnTheWay,
    contract.the_head_stays_out_of_the_exported_weights: ExportsTheHead,
}


class Context:
    """Stands in for `rlkit.testing.ContractContext` with a backend of our own."""

    def __init__(self, faulty: type[FSDPActorCritic] = FSDPActorCritic, tmp_path: Path = Path()) -> None:
        self.faulty, self.tmp_path = faulty, tmp_path

    def build(self) -> FSDPBackend:
        backend = FSDPBackend()
        backend.build_actor_critic = self.faulty  # type: ignore[method-assign, assignment]
        return backend

    def tiny_model(self) -> Path:
        return tiny_model()


@pytest.mark.parametrize("check", contract.CHECKS, ids=lambda check: check.__name__)
def test_every_check_finds_its_fault(check: Any, tmp_path: Path) -> None:
    with pytest.raises(AssertionError):
        check(Context(FAULTS[check], tmp_path))


@pytest.fixture
def built(role):
    """Function: an actor-critic whose head already says something, so that values reach the trunk."""

    def build(**changes):
        chosen = role(**changes)
        model = FSDPBackend().build_actor_critic(chosen, head=replace(chosen.optimizer, lr=1e-2))
        generator = torch.Generator().manual_seed(0)
        with torch.no_grad():
            model.root.score.weight.copy_(0.1 * torch.randn(model.root.score.weight.shape, generator=generator))
        return model

    return build


def gradients(model, objective, *, temperature=0.9):
    """Those of trunk and head just before the optimizers use them."""
    taken = {}

    def take(*, empty=False):
        taken.update({name: p.grad.clone() for name, p in model.root.named_parameters() if p.grad is not None})
        model.root.zero_grad()
        return {}

    model.actor.optimizer.step = model.head_optimizer.step = take
    model.update_jointly(made_up_experience(Context()), objective, temperature=temperature)
    return taken


@pytest.mark.parametrize("tokens", [8192, 9], ids=["whole", "split"])
def test_the_gradient_is_the_policy_s_plus_the_weighted_value_loss_s(built, tokens):
    policy, value = policy_objective(entropy_bonus=0.01), value_objective()
    joint = gradients(built(micro_batch_tokens=tokens), JointObjective(policy, value, 0.3))
    # The same two losses in plain terms, one pass each, nothing split.
    model, experience = built(micro_batch_tokens=8192), made_up_experience(Context())
    policy_part = gradients(built(micro_batch_tokens=8192), JointObjective(policy, value, 0.0))
    from rlkit_fsdp.packed_rows import pack_rollouts

    hidden = model.root.policy.hidden_states(pack_rollouts(experience.rollouts, "cpu"))
    mask = experience.loss_mask.values
    errors = (hidden @ model.root.score.weight[0] - experience.returns.values)[mask]
    (errors.square().sum() / 2 / mask.sum()).backward()
    value_part = {name: p.grad for name, p in model.root.named_parameters() if p.grad is not None}
    assert "score.weight" in joint
    assert joint.keys() == policy_part.keys() | value_part.keys()
    for name, gradient in joint.items():
        expected = policy_part[name] + 0.3 * value_part[name]
        torch.testing.assert_close(gradient, expected, rtol=1e-5, atol=1e-6, msg=name)
    assert float(value_part["policy.model.model.layers.0.self_attn.q_proj.weight"].abs().max()) > 1e-4


def test_the_policy_part_is_the_plain_actor_s(built, role):
    plain = FSDPBackend().build_actor(role())
    taken = {}

    def take(*, empty=False):
        taken.update({name: p.grad.clone() for name, p in plain.module.named_parameters()})
        return {}

    plain.optimizer.step = take
    plain.update_policy(made_up_experience(Context()), policy_objective(), temperature=0.9)
    joint = gradients(built(), JointObjective(policy_objective(), value_objective(), 0.0))
    for name, gradient in taken.items():
        torch.testing.assert_close(joint[f"policy.model.{name}"], gradient, rtol=1e-5, atol=1e-6, msg=name)


def test_warm_up_touches_neither_trunk_nor_its_optimizer(built):
    model, experience = built(), made_up_experience(Context())
    before = {name: tensor.clone() for name, tensor in model.export_weights()}
    for _ in range(3):
        metrics = model.update_head(experience, value_objective())
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.export_weights())
    assert model.actor.optimizer.steps_done == 0
    assert not model.actor.optimizer._adamw.state
    assert all(parameter.grad is None for parameter in model.actor.module.parameters())
    assert metrics["critic/lr"] == 1e-2
    assert not any(name.startswith("actor/") for name in metrics)


def test_the_head_is_float32_in_bfloat16_arithmetic(built):
    model = built(dtype="bfloat16")
    assert model.root.score.weight.dtype == torch.float32
    values = model.compute_values(random_rollouts(Context())).values
    assert values.dtype == torch.float32
    exact = built().compute_values(random_rollouts(Context())).values
    assert 0 < float((values - exact).abs().max()) < 0.1


def test_gradient_checkpointing_gives_the_same_update(built):
    ends = []
    for checkpointing in (False, True):
        model = built(gradient_checkpointing=checkpointing)
        objective = JointObjective(policy_objective(), value_objective(), 0.5)
        model.update_jointly(made_up_experience(Context()), objective, temperature=1.0)
        ends.append([*(tensor for _, tensor in model.export_weights()), model.root.score.weight])
    for left, right in zip(*ends, strict=True):
        torch.testing.assert_close(left, right)


def test_an_adapter_and_the_head_learn_together_and_the_base_stays(built, tmp_path):
    lora = LoraSettings(rank=2, alpha=8.0, targets=("q_proj",))
    model, rollouts = built(lora=lora), random_rollouts(Context())
    base = model.base_policy()
    before = base.compute_log_probs(rollouts, temperature=1.0).log_probs.values
    values = model.compute_values(rollouts).values
    objective = JointObjective(policy_objective(), value_objective(), 0.5)
    for _ in range(3):
        model.update_jointly(made_up_experience(Context()), objective, temperature=1.0)
    assert torch.equal(base.compute_log_probs(rollouts, temperature=1.0).log_probs.values, before)
    assert not torch.equal(model.compute_log_probs(rollouts, temperature=1.0).log_probs.values, before)
    assert not torch.equal(model.compute_values(rollouts).values, values)
    model.save(tmp_path)
    restored = built(lora=lora)
    restored.load(tmp_path)
    assert torch.equal(restored.compute_values(rollouts).values, model.compute_values(rollouts).values)
