"""What every actor backend must do: honest log-probs and values, a gradient that no split changes, exact resumption."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rlkit.types import Experience, Prompt, Ragged, Rollouts, SupervisedBatch

if TYPE_CHECKING:
    from torch import Tensor

    from rlkit.algos.objective import PolicyObjective
    from rlkit.protocols import ModelRole
    from rlkit.testing import ContractContext

TOLERANCE = 1e-4  # nats or values, float32
WEIGHT_TOLERANCE = 1e-5  # of a weight after one update
ROWS = ((3, 5), (1, 2), (7, 1), (2, 9), (4, 4))
"""Prompt and response lengths of the suite's rollouts, in tokens."""
WHOLE, SPLIT = 8192, 9
"""micro_batch_tokens that take all rows at once, and about one row at a time."""


def log_probs_and_entropies_are_those_of_the_model(context: ContractContext) -> None:
    import torch

    rollouts = _rollouts(context)
    for temperature in (1.0, 0.7):
        for name, model in _policies(context):
            answer = model.compute_log_probs(rollouts, temperature=temperature)
            for row, logits in enumerate(_reference_logits(context, rollouts)):
                expected = torch.log_softmax(logits / temperature, dim=-1)
                tokens = list(rollouts.response_ids.rows())[row]
                chosen = expected.gather(1, tokens[:, None])[:, 0]
                entropy = -(expected.exp() * expected).sum(dim=-1)
                place = f"{name}, row {row}, temperature {temperature}"
                _close(list(answer.log_probs.rows())[row], chosen, TOLERANCE, f"log-probs ({place})")
                _close(list(answer.entropy.rows())[row], entropy, TOLERANCE, f"entropy ({place})")


def the_other_rows_do_not_matter(context: ContractContext) -> None:
    rollouts = _rollouts(context)
    order = [3, 0, 4]
    backend = context.build()
    whole = backend.build_actor(_role(context)).compute_log_probs(rollouts, temperature=1.0)
    some = backend.build_actor(_role(context, tokens=SPLIT)).compute_log_probs(rollouts.select(order), temperature=1.0)
    _close(
        some.log_probs.values,
        whole.log_probs.select(order).values,
        TOLERANCE,
        "log-probs of some rows in another order and split",
    )


def splitting_the_mini_batch_leaves_the_update_alone(context: ContractContext) -> None:
    objective = _objective(entropy_bonus=0.01)
    experience = _experience(context)
    backend = context.build()
    updated, metrics = [], []
    for tokens in (WHOLE, SPLIT):
        actor = backend.build_actor(_role(context, tokens=tokens))
        metrics.append(actor.update_policy(experience, objective, temperature=1.0))
        updated.append(_weights(actor))
    _same_weights(updated[0], updated[1], "the policy after one update, whole and split")
    for name in ("actor/loss", "actor/grad_norm", "actor/entropy"):
        assert name in metrics[0], f"update_policy returns no {name}; it returns {', '.join(metrics[0])}"
        difference = abs(metrics[0][name] - metrics[1][name])
        assert difference < TOLERANCE, f"{name} changes by {difference:.2g} with the split"


def updates_follow_the_advantages(context: ContractContext) -> None:
    experience = _experience(context)
    rewarded = replace(
        experience, advantages=experience.advantages.with_values(experience.advantages.values.abs() + 0.5)
    )
    actor = context.build().build_actor(_role(context))
    before = actor.compute_log_probs(rewarded.rollouts, temperature=1.0).log_probs.values.mean()
    for _ in range(5):
        actor.update_policy(rewarded, _objective(), temperature=1.0)
    after = actor.compute_log_probs(rewarded.rollouts, temperature=1.0).log_probs.values.mean()
    assert after > before, f"rewarded answers became less likely: mean log-prob {before:.4f} -> {after:.4f}"


def the_reference_stays_as_it_is(context: ContractContext) -> None:
    rollouts = _rollouts(context)
    backend = context.build()
    reference, actor = backend.build_reference(_role(context, trained=False)), backend.build_actor(_role(context))
    before = reference.compute_log_probs(rollouts, temperature=1.0).log_probs.values
    actor.update_policy(_experience(context), _objective(), temperature=1.0)
    after = reference.compute_log_probs(rollouts, temperature=1.0).log_probs.values
    assert bool((before == after).all()), "the reference changed when the actor was updated"


def a_broken_gradient_is_skipped_and_counted(context: ContractContext) -> None:
    import torch

    experience = _experience(context)
    spoilt = replace(
        experience, advantages=experience.advantages.with_values(torch.full_like(experience.advantages.values, 1e38))
    )
    actor = context.build().build_actor(_role(context))
    before = _weights(actor)
    objective = _objective(scale=1e38)
    metrics = actor.update_policy(spoilt, objective, temperature=1.0)
    assert metrics.get("actor/skipped_steps") == 1, (
        f"actor/skipped_steps is {metrics.get('actor/skipped_steps')} after a step with a non-finite gradient"
    )
    _same_weights(_weights(actor), before, "the policy after a skipped step", tolerance=0.0)
    actor.update_policy(experience, _objective(), temperature=1.0)
    assert all(bool(torch.isfinite(weight).all()) for weight in _weights(actor).values()), (
        "weights are not finite after the step that followed a skipped one"
    )


def exported_weights_are_whole_and_carry_hugging_face_names(context: ContractContext) -> None:
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    actor = context.build().build_actor(_role(context))
    actor.update_policy(_experience(context), _objective(), temperature=1.0)
    family = _role(context).family
    target = context.tmp_path / "exported"
    target.mkdir()
    family.save(actor.export_weights(), AutoConfig.from_pretrained(context.tiny_model()), target)
    opened = AutoModelForCausalLM.from_pretrained(target, dtype=torch.float32).eval()
    rollouts = _rollouts(context)
    expected = actor.compute_log_probs(rollouts, temperature=1.0).log_probs
    for row, logits in enumerate(_reference_logits(context, rollouts, module=opened)):
        tokens = list(rollouts.response_ids.rows())[row]
        chosen = torch.log_softmax(logits, dim=-1).gather(1, tokens[:, None])[:, 0]
        _close(list(expected.rows())[row], chosen, TOLERANCE, f"log-probs of the exported model, row {row}")


def a_saved_policy_goes_on_with_the_same_bits(context: ContractContext) -> None:
    experience, objective = _experience(context), _objective()
    backend = context.build()
    first = backend.build_actor(_role(context))
    for _ in range(2):
        first.update_policy(experience, objective, temperature=1.0)
    folder = context.tmp_path / "actor"
    folder.mkdir()
    first.save(folder)
    second = backend.build_actor(_role(context))
    second.load(folder)
    ends = []
    for actor in (first, second):
        metrics = actor.update_policy(experience, objective, temperature=1.0)
        ends.append((_weights(actor), metrics["actor/grad_norm"], metrics.get("actor/lr")))
    _same_weights(ends[0][0], ends[1][0], "the policy that went on and the one that was restored", tolerance=0.0)
    assert ends[0][1:] == ends[1][1:], f"gradient norm and rate differ after restoring: {ends[0][1:]}, {ends[1][1:]}"


def nothing_is_pickled(context: ContractContext) -> None:
    actor = context.build().build_actor(_role(context))
    actor.update_policy(_experience(context), _objective(), temperature=1.0)
    folder = context.tmp_path / "state"
    folder.mkdir()
    actor.save(folder)
    for path in filter(Path.is_file, folder.rglob("*")):
        start = path.read_bytes()[:4]
        pickled = start.startswith((b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05", b"PK"))
        assert not pickled, f"{path.relative_to(folder)} is a pickle (or a zip of pickles): loading it could run code"


def the_critic_learns_the_returns(context: ContractContext) -> None:
    experience = _experience(context)
    critic = context.build().build_critic(_role(context))
    assert experience.returns is not None
    before = _error(critic.compute_values(experience.rollouts), experience.returns)
    for _ in range(20):
        values = critic.compute_values(experience.rollouts)
        metrics = critic.update_values(replace(experience, old_values=values), _value_objective())
    after = _error(critic.compute_values(experience.rollouts), experience.returns)
    assert after < 0.8 * before, f"20 updates moved the critic's squared error from {before:.4f} to {after:.4f} only"
    for name in ("critic/loss", "critic/grad_norm"):
        assert name in metrics, f"update_values returns no {name}; it returns {', '.join(metrics)}"


def a_saved_critic_goes_on_with_the_same_bits(context: ContractContext) -> None:
    experience, objective = _experience(context), _value_objective()
    backend = context.build()
    first = backend.build_critic(_role(context))
    first.update_values(experience, objective)
    folder = context.tmp_path / "critic"
    folder.mkdir()
    first.save(folder)
    second = backend.build_critic(_role(context))
    second.load(folder)
    ends = []
    for critic in (first, second):
        critic.update_values(experience, objective)
        ends.append(critic.compute_values(experience.rollouts).values)
    assert bool((ends[0] == ends[1]).all()), "the restored critic goes on with other values"


def supervised_loss_is_that_of_the_model_and_falls(context: ContractContext) -> None:
    batch = _conversations(context)
    backend = context.build()
    losses = {}
    for tokens in (WHOLE, SPLIT):
        trainee = backend.build_supervised(_role(context, tokens=tokens))
        total, count = trainee.evaluate(batch)
        assert count == batch.num_loss_tokens, f"evaluate counts {count} loss tokens, there are {batch.num_loss_tokens}"
        reported = trainee.update_supervised(batch)["sft/loss"]
        assert abs(reported - total / count) < TOLERANCE, f"sft/loss {reported:.5f}, evaluate says {total / count:.5f}"
        losses[tokens] = (total / count, _weights(trainee))
        for _ in range(10):
            trainee.update_supervised(batch)
        later = trainee.evaluate(batch)[0] / count
        assert later < losses[tokens][0], f"11 updates took the loss from {losses[tokens][0]:.4f} to {later:.4f}"
    expected = _reference_loss(context, batch)
    assert abs(losses[WHOLE][0] - expected) < TOLERANCE, (
        f"the loss is {losses[WHOLE][0]:.5f}, the model's is {expected:.5f}"
    )
    _same_weights(losses[WHOLE][1], losses[SPLIT][1], "the model after one supervised update, whole and split")


CHECKS: tuple[Callable[[ContractContext], None], ...] = (
    log_probs_and_entropies_are_those_of_the_model,
    the_other_rows_do_not_matter,
    splitting_the_mini_batch_leaves_the_update_alone,
    updates_follow_the_advantages,
    the_reference_stays_as_it_is,
    a_broken_gradient_is_skipped_and_counted,
    exported_weights_are_whole_and_carry_hugging_face_names,
    a_saved_policy_goes_on_with_the_same_bits,
    nothing_is_pickled,
    the_critic_learns_the_returns,
    a_saved_critic_goes_on_with_the_same_bits,
    supervised_loss_is_that_of_the_model_and_falls,
)


def _role(context: ContractContext, *, tokens: int = WHOLE, trained: bool = True) -> ModelRole:
    from rlkit.models.registry import find_family
    from rlkit.protocols.actor import ModelRole, OptimizerSettings

    # A large eps keeps Adam's first steps proportional to the gradient: with a tiny one, rounding noise in entries whose
    # gradient is nearly zero would be blown up to full steps.
    optimizer = OptimizerSettings(1e-3, 0.01, (0.9, 0.99), 1e-2, 1.0, "cosine", 2, 50, 0.1)
    folder = context.tiny_model()
    return ModelRole(
        folder, find_family(folder), "float32", "cpu", tokens, False, False, 0, optimizer if trained else None
    )


def _policies(context: ContractContext) -> Iterator[tuple[str, Any]]:
    backend = context.build()
    yield "actor", backend.build_actor(_role(context))
    yield "actor, split", backend.build_actor(_role(context, tokens=SPLIT))
    yield "reference", backend.build_reference(_role(context, trained=False))


def _rollouts(context: ContractContext) -> Rollouts:
    """Random tokens in rows of different lengths."""
    import torch

    from rlkit.models.shape import read_shape

    vocabulary = read_shape(context.tiny_model()).vocab_size
    generator = torch.Generator().manual_seed(0)
    prompts, responses = (
        Ragged.from_rows([torch.randint(vocabulary, (lengths[side],), generator=generator) for lengths in ROWS])
        for side in (0, 1)
    )
    return Rollouts(
        prompt_ids=prompts,
        response_ids=responses,
        response_mask=responses.with_values(torch.ones(responses.num_tokens, dtype=torch.bool)),
        rollout_log_probs=None,
        group_ids=torch.arange(len(ROWS)),
        finish_reasons=tuple("length" for _ in ROWS),
        policy_version=0,
        prompts=tuple(Prompt(row_id=row, text="?") for row in range(len(ROWS))),
    )


def _experience(context: ContractContext) -> Experience:
    """Rollouts with made-up advantages and returns, old log-probs a little off the policy, and a gap in one mask."""
    import torch

    rollouts = _rollouts(context)
    generator = torch.Generator().manual_seed(1)
    responses = rollouts.response_ids

    def noise(scale: float) -> Ragged:
        return responses.with_values(scale * torch.randn(responses.num_tokens, generator=generator))

    logits = torch.cat(list(_reference_logits(context, rollouts)))
    log_probs = torch.log_softmax(logits, dim=-1).gather(1, responses.values[:, None])[:, 0]
    mask = rollouts.response_mask.with_values(rollouts.response_mask.values.clone())
    mask.values[1] = False
    return Experience(
        rollouts=rollouts,
        old_log_probs=responses.with_values(log_probs + noise(0.05).values),
        advantages=noise(1.0),
        loss_mask=mask,
        returns=noise(0.5),
        old_values=noise(0.0),
    )


def _objective(*, entropy_bonus: float = 0.0, scale: float = 1.0) -> PolicyObjective:
    from rlkit.algos.aggregation import Aggregation
    from rlkit.algos.objective import PolicyObjective
    from rlkit.algos.policy_losses.ppo_clip import PPOClip, TokenLosses

    clip = PPOClip(0.2, 0.2, 3.0)

    def loss(log_probs: Tensor, old_log_probs: Tensor, advantages: Tensor) -> TokenLosses:
        token = clip(log_probs, old_log_probs, advantages)
        return TokenLosses(token.losses * scale, token.metrics)

    return PolicyObjective(clip if scale == 1.0 else loss, Aggregation("token_mean"), entropy_bonus=entropy_bonus)


def _value_objective() -> Any:
    from rlkit.algos.objective import ValueObjective

    return ValueObjective(clip=10.0)


def _conversations(context: ContractContext) -> SupervisedBatch:
    rollouts = _rollouts(context)
    pairs = zip(rollouts.prompt_ids.rows(), rollouts.response_ids.rows(), strict=True)
    rows = [(*prompt.tolist(), *response.tolist()) for prompt, response in pairs]
    masks = [[False] * prompt + [True] * response for prompt, response in ROWS]
    return SupervisedBatch(Ragged.from_rows(rows), Ragged.from_rows(masks))


def _reference_logits(context: ContractContext, rollouts: Rollouts, *, module: Any = None) -> Iterator[Tensor]:
    """Logits [R, V] before each response token, by transformers itself, row by row."""
    import torch
    from transformers import AutoModelForCausalLM

    module = module or AutoModelForCausalLM.from_pretrained(context.tiny_model(), dtype=torch.float32).eval()
    for prompt_ids, response in zip(rollouts.prompt_ids.rows(), rollouts.response_ids.rows(), strict=True):
        with torch.no_grad():
            yield module(torch.cat([prompt_ids, response])[None]).logits[0, len(prompt_ids) - 1 : -1].float()


def _reference_loss(context: ContractContext, batch: SupervisedBatch) -> float:
    """Mean cross-entropy over the loss tokens, by transformers itself."""
    rollouts = _rollouts(context)
    total = 0.0
    import torch

    for row, logits in enumerate(_reference_logits(context, rollouts)):
        tokens = list(rollouts.response_ids.rows())[row]
        total += float(torch.nn.functional.cross_entropy(logits, tokens, reduction="sum"))
    return total / batch.num_loss_tokens


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
