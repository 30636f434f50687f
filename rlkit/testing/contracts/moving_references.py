"""What an actor backend's moving reference must do: take over the policy's weights, whole or in small steps."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from rlkit.testing.backend_cases import (
    made_up_experience,
    model_role,
    policy_objective,
    random_rollouts,
    reference_logits,
)

if TYPE_CHECKING:
    from torch import Tensor

    from rlkit.testing import ContractContext

TOLERANCE = 1e-4  # nats, float32
ROUNDING = 0.1  # of the distance between two policies, in bfloat16's arithmetic
UPDATES = 10


def a_copy_gives_the_policy_s_own_log_probs(context: ContractContext) -> None:
    backend = context.build()
    for dtype in ("float32", "bfloat16"):
        actor = backend.build_actor(replace(model_role(context), dtype=dtype))
        reference = backend.build_moving_reference(replace(model_role(context, trained=False), dtype=dtype))
        _train(actor, context)
        expected = _log_probs(actor, context)
        assert not bool((_log_probs(reference, context) == expected).all()), "the reference followed without being told"
        reference.update_weights(actor.export_weights())
        assert bool((_log_probs(reference, context) == expected).all()), (
            f"after a copy of its weights the policy's log-probs differ from the reference's ({dtype})"
        )
        _train(actor, context)
        assert bool((_log_probs(reference, context) == expected).all()), (
            "the reference changed with the policy's update"
        )


def a_moving_average_is_that_of_the_weights(context: ContractContext) -> None:
    import torch
    from transformers import AutoModelForCausalLM

    decay = 0.25
    backend = context.build()
    actor = backend.build_actor(model_role(context))
    reference = backend.build_moving_reference(model_role(context, trained=False))
    module = AutoModelForCausalLM.from_pretrained(context.tiny_model(), dtype=torch.float32).eval()
    own = module.state_dict()
    for _ in range(2):
        _train(actor, context)
        reference.update_weights(actor.export_weights(), decay=decay)
        with torch.no_grad():
            for name, tensor in actor.export_weights():
                own[name].copy_(decay * own[name] + (1 - decay) * tensor)
    found = reference.compute_log_probs(random_rollouts(context), temperature=1.0).log_probs
    for row, logits in enumerate(reference_logits(context, random_rollouts(context), module=module)):
        tokens = list(random_rollouts(context).response_ids.rows())[row]
        expected = torch.log_softmax(logits, dim=-1).gather(1, tokens[:, None])[:, 0]
        error = float((list(found.rows())[row] - expected).abs().max())
        assert error < TOLERANCE, f"log-probs after two steps of the average, row {row}: off by {error:.2g}"


def small_steps_of_an_average_are_not_lost_in_bfloat16(context: ContractContext) -> None:
    decay, steps = 0.999, 700
    backend = context.build()
    actor = backend.build_actor(model_role(context))
    frozen = replace(model_role(context, trained=False), dtype="bfloat16")
    often, once = backend.build_moving_reference(frozen), backend.build_moving_reference(frozen)
    start = _log_probs(often, context)
    _train(actor, context)
    weights = [(name, tensor.detach().clone()) for name, tensor in actor.export_weights()]
    for _ in range(steps):
        often.update_weights(weights, decay=decay)
    once.update_weights(weights, decay=decay**steps)
    way = float((_log_probs(once, context) - start).abs().mean())
    error = float((_log_probs(often, context) - _log_probs(once, context)).abs().mean())
    assert error < ROUNDING * way, f"{steps} small steps and a large one end {error / way:.0%} of the way apart"


def a_saved_reference_goes_on_with_the_same_bits(context: ContractContext) -> None:
    backend = context.build()
    actor = backend.build_actor(model_role(context))
    _train(actor, context)
    first, second = (backend.build_moving_reference(model_role(context, trained=False)) for _ in range(2))
    first.update_weights(actor.export_weights(), decay=0.5)
    folder = context.tmp_path / "reference"
    folder.mkdir()
    first.save(folder)
    second.load(folder)
    for reference in (first, second):
        reference.update_weights(actor.export_weights(), decay=0.5)
    same = bool((_log_probs(first, context) == _log_probs(second, context)).all())
    assert same, "the restored reference goes on with other log-probs"


CHECKS: tuple[Callable[[ContractContext], None], ...] = (
    a_copy_gives_the_policy_s_own_log_probs,
    a_moving_average_is_that_of_the_weights,
    small_steps_of_an_average_are_not_lost_in_bfloat16,
    a_saved_reference_goes_on_with_the_same_bits,
)


def _train(actor: Any, context: ContractContext) -> None:
    experience = made_up_experience(context)
    for _ in range(UPDATES):
        actor.update_policy(experience, policy_objective(), temperature=1.0)


def _log_probs(model: Any, context: ContractContext) -> Tensor:
    values: Tensor = model.compute_log_probs(random_rollouts(context), temperature=1.0).log_probs.values
    return values
