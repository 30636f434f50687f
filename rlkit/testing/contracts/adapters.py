"""What an actor backend must do with a role that has `lora`. One without adapters refuses it with an `RLKitError`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from rlkit.errors import RLKitError
from rlkit.testing.backend_cases import made_up_experience, model_role, policy_objective, random_rollouts

if TYPE_CHECKING:
    from torch import Tensor

    from rlkit.protocols import ModelRole
    from rlkit.testing import ContractContext

MERGE_TOLERANCE = 1e-5  # nats, float32
STEPS = 3


def adapted_role(context: ContractContext) -> ModelRole:
    """The tiny model with small adapters on two kinds of layers."""
    from rlkit.protocols.actor import LoraSettings

    return replace(model_role(context), lora=LoraSettings(rank=2, alpha=8.0, targets=("q_proj", "down_proj")))


def an_adapter_starts_as_the_model_and_leaves_it_as_it_is(context: ContractContext) -> None:
    backend = context.build()
    actor = _adapted(backend, context)
    if actor is None:
        return
    rollouts = random_rollouts(context)
    expected = _log_probs(backend.build_reference(model_role(context, trained=False)), rollouts)
    assert bool((_log_probs(actor, rollouts) == expected).all()), "a new adapter already changes the log-probs"
    base = actor.base_policy()
    assert base is not None, "base_policy is None although the role has lora"
    for when in ("before", "after"):
        found = _log_probs(base, rollouts)
        assert bool((found == expected).all()), f"base_policy {when} updates is not the model without its adapter"
        _update(actor, context)
    assert bool((_log_probs(actor, rollouts) != expected).any()), "updates of the adapter change nothing"
    assert backend.build_actor(model_role(context)).base_policy() is None, "base_policy of a role without lora"


def only_adapted_weights_change(context: ContractContext) -> None:
    actor = _adapted(context.build(), context)
    if actor is None:
        return
    before = {name: tensor.detach().clone() for name, tensor in actor.export_weights()}
    _update(actor, context)
    changed = {name for name, tensor in actor.export_weights() if bool((tensor != before[name]).any())}
    expected = {name for name in before if "q_proj" in name or "down_proj" in name}
    assert changed == expected, f"changed: {sorted(changed)}, adapted: {sorted(expected)}"


def merged_weights_are_the_policy(context: ContractContext) -> None:
    from transformers import AutoConfig

    backend, role = context.build(), adapted_role(context)
    actor = _adapted(backend, context)
    if actor is None:
        return
    _update(actor, context)
    before = _log_probs(actor, random_rollouts(context))
    folder = context.tmp_path / "merged"
    folder.mkdir()
    role.family.save(actor.export_weights(), AutoConfig.from_pretrained(role.path), folder)
    merged = backend.build_reference(replace(model_role(context, trained=False), path=folder))
    error = float((_log_probs(merged, random_rollouts(context)) - before).abs().max())
    assert error < MERGE_TOLERANCE, f"the merged model's log-probs are off by {error:.2g}"
    after = _log_probs(actor, random_rollouts(context))
    assert bool((after == before).all()), "exporting the weights changed the policy"


def the_exported_adapter_is_what_was_merged(context: ContractContext) -> None:
    """Of actors that offer `export_adapter` only."""
    from rlkit.models.adapter_folder import merged_weights
    from rlkit.models.safetensors_io import stream_tensors

    backend = context.build()
    actor = _adapted(backend, context)
    if actor is None or not hasattr(actor, "export_adapter"):
        return
    _update(actor, context)
    expected = dict(actor.export_weights())
    for name, tensor in merged_weights(stream_tensors(adapted_role(context).path), actor.export_adapter()):
        if name in expected:  # tied tensors are exported once
            error = float((tensor - expected[name]).abs().max())
            assert error < MERGE_TOLERANCE, (
                f"{name}: base model and exported adapter are off the merged one by {error:.2g}"
            )


def a_saved_adapter_is_small_and_goes_on_with_the_same_bits(context: ContractContext) -> None:
    backend = context.build()
    first = _adapted(backend, context)
    if first is None:
        return
    _update(first, context)
    folder = context.tmp_path / "state"
    folder.mkdir()
    first.save(folder)
    saved = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    whole = sum(path.stat().st_size for path in adapted_role(context).path.glob("*.safetensors"))
    assert saved < whole, f"the state of a small adapter takes {saved} bytes, the whole model {whole}"
    second = _adapted(backend, context)
    second.load(folder)
    for actor in (first, second):
        _update(actor, context)
    weights = dict(second.export_weights())
    for name, tensor in first.export_weights():
        assert bool((tensor == weights[name]).all()), f"{name} differs after saving, loading and going on"


CHECKS: tuple[Callable[[ContractContext], None], ...] = (
    an_adapter_starts_as_the_model_and_leaves_it_as_it_is,
    only_adapted_weights_change,
    merged_weights_are_the_policy,
    the_exported_adapter_is_what_was_merged,
    a_saved_adapter_is_small_and_goes_on_with_the_same_bits,
)


def _adapted(backend: Any, context: ContractContext) -> Any:
    try:
        return backend.build_actor(adapted_role(context))
    except RLKitError as error:
        assert "lora" in str(error).lower(), f"the refusal of a role with lora does not name it: {error}"
        return None


def _update(actor: Any, context: ContractContext) -> None:
    for _ in range(STEPS):
        actor.update_policy(made_up_experience(context), policy_objective(), temperature=1.0)


def _log_probs(model: Any, rollouts: Any) -> Tensor:
    values: Tensor = model.compute_log_probs(rollouts, temperature=1.0).log_probs.values
    return values
