"""What an actor backend must do when actor and critic are one network."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from rlkit.testing.backend_cases import (
    SPLIT,
    WHOLE,
    made_up_experience,
    model_role,
    policy_objective,
    random_rollouts,
    value_objective,
)
from rlkit.types import Experience

if TYPE_CHECKING:
    from torch import Tensor

    from rlkit.algos.joint_objective import JointObjective
    from rlkit.testing import ContractContext

HEAD_LR = 1e-2
VALUE_WEIGHT = 0.5
WEIGHT_TOLERANCE = 1e-5  # of a weight after one update
VALUE_TOLERANCE = 1e-4


def joint_objective() -> JointObjective:
    """The suite's two objectives together."""
    from rlkit.algos.joint_objective import JointObjective

    return JointObjective(policy_objective(), value_objective(), VALUE_WEIGHT)


def a_new_head_knows_nothing_and_leaves_the_policy_alone(context: ContractContext) -> None:
    rollouts = random_rollouts(context)
    backend = context.build()
    model, actor = _build(backend, context), backend.build_actor(model_role(context))
    assert not model.compute_values(rollouts).values.any(), "a new head's values must be zero: it knows nothing yet"
    _learn(model, context, 1)
    actor.update_policy(made_up_experience(context), policy_objective(), temperature=1.0)
    # A head of zeros passes no gradient on, and the policy's is clipped by its own norm.
    _same_weights(_weights(model), _weights(actor), "the policy after one joint update and after one of its own")


def the_value_loss_teaches_the_trunk(context: ContractContext) -> None:
    experience = made_up_experience(context)
    silent = replace(experience, advantages=experience.advantages.with_values(0.0 * experience.advantages.values))
    backend = context.build()
    model, actor = _build(backend, context), backend.build_actor(model_role(context))
    _learn(model, context, 3, experience=silent)
    for _ in range(3):
        actor.update_policy(silent, policy_objective(), temperature=1.0)  # nothing but weight decay
    without = _weights(actor)
    apart = max(float((tensor - without[name]).abs().max()) for name, tensor in _weights(model).items())
    assert apart > 10 * WEIGHT_TOLERANCE, (
        "joint updates without advantages: no gradient of the values reaches the trunk"
    )


def one_pass_gives_log_probs_and_values(context: ContractContext) -> None:
    rollouts = random_rollouts(context)
    model = _build(context.build(), context)
    _learn(model, context, 2)
    policy, values = model.compute_log_probs_and_values(rollouts, temperature=0.7)
    alone = model.compute_log_probs(rollouts, temperature=0.7)
    assert bool((policy.log_probs.values == alone.log_probs.values).all()), (
        "log-probs differ when values come with them"
    )
    assert bool((policy.entropy.values == alone.entropy.values).all()), "entropies differ when values come with them"
    assert bool((values.values == model.compute_values(rollouts).values).all()), (
        "values differ when log-probs come with them"
    )


def the_head_alone_learns_in_its_warm_up(context: ContractContext) -> None:
    experience = made_up_experience(context)
    model = _build(context.build(), context)
    before, error = _weights(model), _error(model, experience)
    for _ in range(20):
        metrics = model.update_head(experience, value_objective())
    _same_weights(_weights(model), before, "the trunk while only its head learned", tolerance=0.0)
    after = _error(model, experience)
    assert after < error, f"20 updates of the head moved its squared error from {error:.4f} to {after:.4f}"
    _has(metrics, "critic/loss", "critic/grad_norm", "critic/lr")


def the_head_is_on_a_schedule_of_its_own(context: ContractContext) -> None:
    """It learns in its warm-up too, so its rate falls over more steps than the trunk's."""
    experience, role = made_up_experience(context), model_role(context)
    assert role.optimizer is not None
    head = replace(role.optimizer, lr=HEAD_LR, schedule="linear", warmup_steps=0, total_steps=4, min_lr_ratio=0.0)
    model = context.build().build_actor_critic(role, head=head)
    rates = [
        model.update_head(experience, value_objective())["critic/lr"],
        model.update_jointly(experience, joint_objective(), temperature=1.0)["critic/lr"],
    ]
    for rate, expected in zip(rates, (HEAD_LR, 0.75 * HEAD_LR), strict=True):
        assert abs(rate - expected) < 1e-9, f"critic/lr is {rate:g} where the head's own schedule has {expected:g}"


def joint_updates_learn_the_returns(context: ContractContext) -> None:
    experience = made_up_experience(context)
    model = _build(context.build(), context)
    error = _error(model, experience)
    metrics = _learn(model, context, 20)
    after = _error(model, experience)
    assert after < 0.8 * error, f"20 joint updates moved the squared error from {error:.4f} to {after:.4f} only"
    _has(metrics, "actor/loss", "actor/grad_norm", "actor/lr", "critic/loss", "critic/grad_norm", "critic/lr")


def splitting_the_mini_batch_leaves_the_joint_update_alone(context: ContractContext) -> None:
    backend = context.build()
    ends, values, metrics = [], [], []
    for tokens in (WHOLE, SPLIT):
        model = _build(backend, context, tokens=tokens)
        model.update_head(made_up_experience(context), value_objective())
        metrics.append(_learn(model, context, 2))
        ends.append(_weights(model))
        values.append(model.compute_values(random_rollouts(context)).values)
    _same_weights(ends[0], ends[1], "the policy after joint updates, whole and split")
    error = float((values[0] - values[1]).abs().max())
    assert error < VALUE_TOLERANCE, f"values after joint updates, whole and split: off by {error:.2g}"
    for name in ("actor/loss", "critic/loss", "critic/grad_norm"):
        difference = abs(metrics[0][name] - metrics[1][name])
        assert difference < VALUE_TOLERANCE, f"{name} changes by {difference:.2g} with the split"


def a_saved_actor_critic_goes_on_with_the_same_bits(context: ContractContext) -> None:
    experience = made_up_experience(context)
    backend = context.build()
    first = _build(backend, context)
    first.update_head(experience, value_objective())
    _learn(first, context, 2)
    folder = context.tmp_path / "actor_critic"
    folder.mkdir()
    first.save(folder)
    second = _build(backend, context)
    second.load(folder)
    ends = []
    for model in (first, second):
        metrics = _learn(model, context, 1)
        values = model.compute_values(experience.rollouts).values
        ends.append((_weights(model), values, metrics["actor/lr"], metrics["critic/lr"]))
    _same_weights(ends[0][0], ends[1][0], "the policy that went on and the restored one", tolerance=0.0)
    assert bool((ends[0][1] == ends[1][1]).all()), "the restored head goes on with other values"
    assert ends[0][2:] == ends[1][2:], f"learning rates differ after restoring: {ends[0][2:]}, {ends[1][2:]}"


def an_offloaded_actor_critic_comes_back_as_it_was(context: ContractContext) -> None:
    backend = context.build()
    ends = []
    for offloaded in (False, True):
        model = _build(backend, context)
        for _ in range(2):
            _learn(model, context, 1)
            if offloaded:
                model.offload()
                model.offload()
                model.onload()
        ends.append((_weights(model), model.compute_values(random_rollouts(context)).values))
    _same_weights(ends[0][0], ends[1][0], "the policy that stayed and the one that went away", tolerance=0.0)
    assert bool((ends[0][1] == ends[1][1]).all()), "values differ after offloading"


def the_head_stays_out_of_the_exported_weights(context: ContractContext) -> None:
    backend = context.build()
    model = _build(backend, context)
    _learn(model, context, 1)
    expected = list(_weights(backend.build_actor(model_role(context))))
    assert list(_weights(model)) == expected, (
        f"exported: {sorted(set(_weights(model)) ^ set(expected))} too much or missing"
    )


CHECKS: tuple[Callable[[ContractContext], None], ...] = (
    a_new_head_knows_nothing_and_leaves_the_policy_alone,
    the_value_loss_teaches_the_trunk,
    one_pass_gives_log_probs_and_values,
    the_head_alone_learns_in_its_warm_up,
    the_head_is_on_a_schedule_of_its_own,
    joint_updates_learn_the_returns,
    splitting_the_mini_batch_leaves_the_joint_update_alone,
    a_saved_actor_critic_goes_on_with_the_same_bits,
    an_offloaded_actor_critic_comes_back_as_it_was,
    the_head_stays_out_of_the_exported_weights,
)


def _build(backend: Any, context: ContractContext, *, tokens: int = WHOLE) -> Any:
    role = model_role(context, tokens=tokens)
    assert role.optimizer is not None
    return backend.build_actor_critic(role, head=replace(role.optimizer, lr=HEAD_LR))


def _learn(
    model: Any, context: ContractContext, steps: int, *, experience: Experience | None = None
) -> dict[str, float]:
    """The last update's metrics."""
    metrics: dict[str, float] = {}
    batch = experience or made_up_experience(context)
    for _ in range(steps):
        values = model.compute_values(batch.rollouts)
        metrics = model.update_jointly(replace(batch, old_values=values), joint_objective(), temperature=1.0)
    return metrics


def _weights(model: Any) -> dict[str, Tensor]:
    return {name: tensor.detach().clone() for name, tensor in model.export_weights()}


def _same_weights(
    left: dict[str, Tensor], right: dict[str, Tensor], what: str, *, tolerance: float = WEIGHT_TOLERANCE
) -> None:
    assert left.keys() == right.keys(), f"{what}: different parameter names"
    for name, tensor in left.items():
        error = float((tensor - right[name]).abs().max())
        assert error <= tolerance, f"{what}: {name} off by {error:.2g}"


def _error(model: Any, experience: Experience) -> float:
    assert experience.returns is not None
    difference = model.compute_values(experience.rollouts).values - experience.returns.values
    return float(difference.square().mean())


def _has(metrics: dict[str, float], *names: str) -> None:
    for name in names:
        assert name in metrics, f"the update returns no {name}; it returns {', '.join(metrics)}"
