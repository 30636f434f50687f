"""What every actor backend must do: honest log-probs and values, a gradient that no split changes, exact resumption."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rlkit.testing.backend_cases import (
    SPLIT,
    WHOLE,
    choosing_objective,
    made_up_experience,
    model_role,
    policy_objective,
    random_conversations,
    random_rollouts,
    reference_logits,
    reference_loss,
    value_objective,
)
from rlkit.testing.contracts import actor_critics, adapters, moving_references
from rlkit.types import Ragged

if TYPE_CHECKING:
    from torch import Tensor

    from rlkit.testing import ContractContext

TOLERANCE = 1e-4  # nats or values, float32
WEIGHT_TOLERANCE = 1e-5  # of a weight after one update


def log_probs_and_entropies_are_those_of_the_model(context: ContractContext) -> None:
    import torch

    rollouts = random_rollouts(context)
    for temperature in (1.0, 0.7):
        for name, model in _policies(context):
            answer = model.compute_log_probs(rollouts, temperature=temperature)
            for row, logits in enumerate(reference_logits(context, rollouts)):
                expected = torch.log_softmax(logits / temperature, dim=-1)
                tokens = list(rollouts.response_ids.rows())[row]
                chosen = expected.gather(1, tokens[:, None])[:, 0]
                entropy = -(expected.exp() * expected).sum(dim=-1)
                place = f"{name}, row {row}, temperature {temperature}"
                _close(list(answer.log_probs.rows())[row], chosen, TOLERANCE, f"log-probs ({place})")
                _close(list(answer.entropy.rows())[row], entropy, TOLERANCE, f"entropy ({place})")


def squared_probabilities_come_when_asked_for(context: ContractContext) -> None:
    import torch

    rollouts = random_rollouts(context)
    backend = context.build()
    for tokens in (WHOLE, SPLIT):
        actor = backend.build_actor(model_role(context, tokens=tokens))
        silent = actor.compute_log_probs(rollouts, temperature=0.7).probability_squares
        assert silent is None, "probability_squares came though nobody had asked"
        answer = actor.compute_log_probs(rollouts, temperature=0.7, probability_squares=True).probability_squares
        assert answer is not None, "probability_squares did not come though asked for"
        for row, logits in enumerate(reference_logits(context, rollouts)):
            expected = torch.softmax(logits / 0.7, dim=-1).square().sum(dim=-1)
            _close(list(answer.rows())[row], expected, TOLERANCE, f"squared probabilities, row {row}")


def the_other_rows_do_not_matter(context: ContractContext) -> None:
    rollouts = random_rollouts(context)
    order = [3, 0, 4]
    backend = context.build()
    whole = backend.build_actor(model_role(context)).compute_log_probs(rollouts, temperature=1.0)
    some = backend.build_actor(model_role(context, tokens=SPLIT)).compute_log_probs(
        rollouts.select(order), temperature=1.0
    )
    _close(
        some.log_probs.values,
        whole.log_probs.select(order).values,
        TOLERANCE,
        "log-probs of some rows in another order and split",
    )


def splitting_the_mini_batch_leaves_the_update_alone(context: ContractContext) -> None:
    objective = policy_objective(entropy_bonus=0.01)
    experience = made_up_experience(context)
    backend = context.build()
    updated, metrics = [], []
    for tokens in (WHOLE, SPLIT):
        actor = backend.build_actor(model_role(context, tokens=tokens))
        metrics.append(actor.update_policy(experience, objective, temperature=1.0))
        updated.append(_weights(actor))
    _same_weights(updated[0], updated[1], "the policy after one update, whole and split")
    for name in ("actor/loss", "actor/grad_norm", "actor/entropy"):
        assert name in metrics[0], f"update_policy returns no {name}; it returns {', '.join(metrics[0])}"
        difference = abs(metrics[0][name] - metrics[1][name])
        assert difference < TOLERANCE, f"{name} changes by {difference:.2g} with the split"


def tokens_are_chosen_of_the_whole_mini_batch(context: ContractContext) -> None:
    objective, experience = choosing_objective(), made_up_experience(context)
    backend = context.build()
    updated, metrics = [], []
    for tokens in (WHOLE, SPLIT):
        actor = backend.build_actor(model_role(context, tokens=tokens))
        metrics.append(actor.update_policy(experience, objective, temperature=1.0))
        updated.append(_weights(actor))
    chosen = [of_one.get("actor/selected_fraction", 0.0) for of_one in metrics]
    assert chosen[0] > 0, "a loss that chooses tokens chose none: update_policy must call objective.prepare"
    assert abs(chosen[0] - chosen[1]) < TOLERANCE, (
        f"the loss chose {chosen[0]:.4f} of the tokens, split {chosen[1]:.4f}"
    )
    _same_weights(updated[0], updated[1], "the policy after one update by a loss that chooses tokens, whole and split")


def updates_follow_the_advantages(context: ContractContext) -> None:
    experience = made_up_experience(context)
    rewarded = replace(
        experience, advantages=experience.advantages.with_values(experience.advantages.values.abs() + 0.5)
    )
    actor = context.build().build_actor(model_role(context))
    before = actor.compute_log_probs(rewarded.rollouts, temperature=1.0).log_probs.values.mean()
    for _ in range(5):
        actor.update_policy(rewarded, policy_objective(), temperature=1.0)
    after = actor.compute_log_probs(rewarded.rollouts, temperature=1.0).log_probs.values.mean()
    assert after > before, f"rewarded answers became less likely: mean log-prob {before:.4f} -> {after:.4f}"


def dropout_is_switched_off(context: ContractContext) -> None:
    """With it the policy would give other log-probs each time, and the first update start from ratios other than 1."""
    experience, objective = made_up_experience(context), policy_objective()
    folder = context.tmp_path / "dropout"
    shutil.copytree(context.tiny_model(), folder)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "attention_dropout": 0.5}))
    backend = context.build()
    for checkpointing in (False, True):
        plain = replace(model_role(context), gradient_checkpointing=checkpointing)
        ends = []
        for role in (plain, replace(plain, path=folder)):
            actor = backend.build_actor(role)
            actor.update_policy(experience, objective, temperature=1.0)
            ends.append(_weights(actor))
        what = f"the policy after one update, with and without dropout (gradient_checkpointing = {checkpointing})"
        _same_weights(ends[0], ends[1], what)


def the_reference_stays_as_it_is(context: ContractContext) -> None:
    rollouts = random_rollouts(context)
    backend = context.build()
    reference, actor = (
        backend.build_reference(model_role(context, trained=False)),
        backend.build_actor(model_role(context)),
    )
    before = reference.compute_log_probs(rollouts, temperature=1.0).log_probs.values
    actor.update_policy(made_up_experience(context), policy_objective(), temperature=1.0)
    after = reference.compute_log_probs(rollouts, temperature=1.0).log_probs.values
    assert bool((before == after).all()), "the reference changed when the actor was updated"


def a_broken_gradient_is_skipped_and_counted(context: ContractContext) -> None:
    import torch

    experience = made_up_experience(context)
    spoilt = replace(
        experience, advantages=experience.advantages.with_values(torch.full_like(experience.advantages.values, 1e38))
    )
    actor = context.build().build_actor(model_role(context))
    before = _weights(actor)
    objective = policy_objective(scale=1e38)
    metrics = actor.update_policy(spoilt, objective, temperature=1.0)
    assert metrics.get("actor/skipped_steps") == 1, (
        f"actor/skipped_steps is {metrics.get('actor/skipped_steps')} after a step with a non-finite gradient"
    )
    _same_weights(_weights(actor), before, "the policy after a skipped step", tolerance=0.0)
    actor.update_policy(experience, policy_objective(), temperature=1.0)
    assert all(bool(torch.isfinite(weight).all()) for weight in _weights(actor).values()), (
        "weights are not finite after the step that followed a skipped one"
    )


def a_mini_batch_without_a_token_to_learn_from_changes_nothing(context: ContractContext) -> None:
    """Neither weight decay nor what the moments remember may move a model for which every answer was rejected."""
    import torch

    experience, batch, backend = made_up_experience(context), random_conversations(context), context.build()
    rejected = replace(
        experience, loss_mask=experience.loss_mask.with_values(torch.zeros_like(experience.loss_mask.values))
    )
    unread = replace(batch, loss_mask=batch.loss_mask.with_values(torch.zeros_like(batch.loss_mask.values)))
    actor = backend.build_actor(model_role(context))
    critic, trainee = backend.build_critic(model_role(context)), backend.build_supervised(model_role(context))
    actor.update_policy(experience, policy_objective(), temperature=1.0)
    critic.update_values(experience, value_objective())
    trainee.update_supervised(batch)
    before = [_weights(model) for model in (actor, critic, trainee)]
    metrics = {
        **actor.update_policy(rejected, policy_objective(), temperature=1.0),
        **critic.update_values(rejected, value_objective()),
        **trainee.update_supervised(unread),
    }
    for area, model, weights in zip(("actor", "critic", "sft"), (actor, critic, trainee), before, strict=True):
        _same_weights(_weights(model), weights, f"{area} after an update without a loss token", tolerance=0.0)
        name = f"{area}/skipped_steps"
        assert metrics.get(name) == 1, f"{name} is {metrics.get(name)} after an update without a loss token"


def exported_weights_are_whole_and_carry_hugging_face_names(context: ContractContext) -> None:
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    actor = context.build().build_actor(model_role(context))
    actor.update_policy(made_up_experience(context), policy_objective(), temperature=1.0)
    family = model_role(context).family
    target = context.tmp_path / "exported"
    target.mkdir()
    family.save(actor.export_weights(), AutoConfig.from_pretrained(context.tiny_model()), target)
    opened = AutoModelForCausalLM.from_pretrained(target, dtype=torch.float32).eval()
    rollouts = random_rollouts(context)
    expected = actor.compute_log_probs(rollouts, temperature=1.0).log_probs
    for row, logits in enumerate(reference_logits(context, rollouts, module=opened)):
        tokens = list(rollouts.response_ids.rows())[row]
        chosen = torch.log_softmax(logits, dim=-1).gather(1, tokens[:, None])[:, 0]
        _close(list(expected.rows())[row], chosen, TOLERANCE, f"log-probs of the exported model, row {row}")


def a_saved_policy_goes_on_with_the_same_bits(context: ContractContext) -> None:
    experience, objective = made_up_experience(context), policy_objective()
    backend = context.build()
    first = backend.build_actor(model_role(context))
    for _ in range(2):
        first.update_policy(experience, objective, temperature=1.0)
    folder = context.tmp_path / "actor"
    folder.mkdir()
    first.save(folder)
    second = backend.build_actor(model_role(context))
    second.load(folder)
    ends = []
    for actor in (first, second):
        metrics = actor.update_policy(experience, objective, temperature=1.0)
        ends.append((_weights(actor), metrics["actor/grad_norm"], metrics.get("actor/lr")))
    _same_weights(ends[0][0], ends[1][0], "the policy that went on and the one that was restored", tolerance=0.0)
    assert ends[0][1:] == ends[1][1:], f"gradient norm and rate differ after restoring: {ends[0][1:]}, {ends[1][1:]}"


def nothing_is_pickled(context: ContractContext) -> None:
    actor = context.build().build_actor(model_role(context))
    actor.update_policy(made_up_experience(context), policy_objective(), temperature=1.0)
    folder = context.tmp_path / "state"
    folder.mkdir()
    actor.save(folder)
    for path in filter(Path.is_file, folder.rglob("*")):
        start = path.read_bytes()[:4]
        pickled = start.startswith((b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05", b"PK"))
        assert not pickled, f"{path.relative_to(folder)} is a pickle (or a zip of pickles): loading it could run code"


def the_critic_learns_the_returns(context: ContractContext) -> None:
    experience = made_up_experience(context)
    critic = context.build().build_critic(model_role(context))
    assert experience.returns is not None
    before = _error(critic.compute_values(experience.rollouts), experience.returns)
    for _ in range(20):
        values = critic.compute_values(experience.rollouts)
        metrics = critic.update_values(replace(experience, old_values=values), value_objective())
    after = _error(critic.compute_values(experience.rollouts), experience.returns)
    assert after < 0.8 * before, f"20 updates moved the critic's squared error from {before:.4f} to {after:.4f} only"
    for name in ("critic/loss", "critic/grad_norm"):
        assert name in metrics, f"update_values returns no {name}; it returns {', '.join(metrics)}"


def values_are_predicted_from_what_comes_before(context: ContractContext) -> None:
    import torch

    experience = made_up_experience(context)
    critic = context.build().build_critic(model_role(context))
    start = critic.compute_values(experience.rollouts).values
    assert not start.any(), "a new critic's values must be zero: its head knows nothing yet"
    for _ in range(3):  # so that the values depend on the tokens
        values = critic.compute_values(experience.rollouts)
        critic.update_values(replace(experience, old_values=values), value_objective())
    before = next(critic.compute_values(experience.rollouts).rows())
    responses = experience.rollouts.response_ids
    changed = responses.values.clone()
    changed[2] = (changed[2] + 1) % 8  # the third token of the first response
    after = critic.compute_values(replace(experience.rollouts, response_ids=responses.with_values(changed)))
    row = next(after.rows())
    _close(row[:3], before[:3], 1e-6, "values at and before a token that was changed")
    assert not torch.allclose(row[3:], before[3:], atol=1e-6), "values do not depend on the tokens before them"


def a_saved_critic_goes_on_with_the_same_bits(context: ContractContext) -> None:
    experience, objective = made_up_experience(context), value_objective()
    backend = context.build()
    first = backend.build_critic(model_role(context))
    first.update_values(experience, objective)
    folder = context.tmp_path / "critic"
    folder.mkdir()
    first.save(folder)
    second = backend.build_critic(model_role(context))
    second.load(folder)
    ends = []
    for critic in (first, second):
        critic.update_values(experience, objective)
        ends.append(critic.compute_values(experience.rollouts).values)
    assert bool((ends[0] == ends[1]).all()), "the restored critic goes on with other values"


def supervised_loss_is_that_of_the_model_and_falls(context: ContractContext) -> None:
    batch = random_conversations(context)
    backend = context.build()
    losses = {}
    for tokens in (WHOLE, SPLIT):
        trainee = backend.build_supervised(model_role(context, tokens=tokens))
        total, count = trainee.evaluate(batch)
        assert count == batch.num_loss_tokens, f"evaluate counts {count} loss tokens, there are {batch.num_loss_tokens}"
        reported = trainee.update_supervised(batch)["sft/loss"]
        assert abs(reported - total / count) < TOLERANCE, f"sft/loss {reported:.5f}, evaluate says {total / count:.5f}"
        losses[tokens] = (total / count, _weights(trainee))
        for _ in range(10):
            trainee.update_supervised(batch)
        later = trainee.evaluate(batch)[0] / count
        assert later < losses[tokens][0], f"11 updates took the loss from {losses[tokens][0]:.4f} to {later:.4f}"
    expected = reference_loss(context, batch)
    assert abs(losses[WHOLE][0] - expected) < TOLERANCE, (
        f"the loss is {losses[WHOLE][0]:.5f}, the model's is {expected:.5f}"
    )
    _same_weights(losses[WHOLE][1], losses[SPLIT][1], "the model after one supervised update, whole and split")


def a_saved_supervised_model_goes_on_with_the_same_bits(context: ContractContext) -> None:
    batch = random_conversations(context)
    backend = context.build()
    first = backend.build_supervised(model_role(context))
    for _ in range(2):
        first.update_supervised(batch)
    folder = context.tmp_path / "model"
    folder.mkdir()
    first.save(folder)
    second = backend.build_supervised(model_role(context))
    second.load(folder)
    for trainee in (first, second):
        trainee.update_supervised(batch)
    _same_weights(
        _weights(first), _weights(second), "the model that went on and the one that was restored", tolerance=0.0
    )


def offloading_changes_nothing(context: ContractContext) -> None:
    experience, objective = made_up_experience(context), policy_objective()
    backend = context.build()
    ends = []
    for offloaded in (False, True):
        actor = backend.build_actor(model_role(context))
        for _ in range(2):
            actor.update_policy(experience, objective, temperature=1.0)
            if offloaded:
                actor.offload()
                actor.offload()
                actor.onload()
        ends.append(_weights(actor))
    _same_weights(ends[0], ends[1], "the policy that stayed on its device and the one that went away", tolerance=0.0)
    reference = backend.build_reference(model_role(context, trained=False))
    before = reference.compute_log_probs(experience.rollouts, temperature=1.0).log_probs.values
    reference.offload()
    reference.onload()
    after = reference.compute_log_probs(experience.rollouts, temperature=1.0).log_probs.values
    assert bool((before == after).all()), "the reference changed on its way off the device and back"


CHECKS: tuple[Callable[[ContractContext], None], ...] = (
    log_probs_and_entropies_are_those_of_the_model,
    squared_probabilities_come_when_asked_for,
    the_other_rows_do_not_matter,
    splitting_the_mini_batch_leaves_the_update_alone,
    tokens_are_chosen_of_the_whole_mini_batch,
    updates_follow_the_advantages,
    dropout_is_switched_off,
    the_reference_stays_as_it_is,
    a_broken_gradient_is_skipped_and_counted,
    a_mini_batch_without_a_token_to_learn_from_changes_nothing,
    exported_weights_are_whole_and_carry_hugging_face_names,
    a_saved_policy_goes_on_with_the_same_bits,
    nothing_is_pickled,
    the_critic_learns_the_returns,
    values_are_predicted_from_what_comes_before,
    a_saved_critic_goes_on_with_the_same_bits,
    supervised_loss_is_that_of_the_model_and_falls,
    a_saved_supervised_model_goes_on_with_the_same_bits,
    offloading_changes_nothing,
    *adapters.CHECKS,
    *moving_references.CHECKS,
    *actor_critics.CHECKS,
)


def _policies(context: ContractContext) -> Iterator[tuple[str, Any]]:
    backend = context.build()
    yield "actor", backend.build_actor(model_role(context))
    yield "actor, split", backend.build_actor(model_role(context, tokens=SPLIT))
    yield "reference", backend.build_reference(model_role(context, trained=False))


def _weights(model: Any) -> dict[str, Tensor]:
    return {name: tensor.detach().clone() for name, tensor in model.export_weights()}


def _same_weights(
    left: Mapping[str, Tensor], right: Mapping[str, Tensor], what: str, *, tolerance: float = WEIGHT_TOLERANCE
) -> None:
    assert left.keys() == right.keys(), f"{what}: different parameter names"
    for name, tensor in left.items():
        _close(tensor, right[name], tolerance, f"{what}: {name}")


def _close(actual: Tensor, expected: Tensor, tolerance: float, what: str) -> None:
    assert actual.shape == expected.shape, f"{what}: shape {tuple(actual.shape)}, expected {tuple(expected.shape)}"
    error = float((actual - expected).abs().max())
    assert error <= tolerance, f"{what}: off by {error:.2g}"


def _error(values: Ragged, returns: Ragged) -> float:
    return float((values.values - returns.values).square().mean())
