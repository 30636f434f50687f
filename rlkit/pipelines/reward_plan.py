"""What `--dry-run` says of the models that reward functions keep in memory."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from rlkit.config.errors import validate_section
from rlkit.config.reward_sections import RewardSection
from rlkit.models.shape import ModelShape
from rlkit.pipelines.known_shape import known_shape
from rlkit.pipelines.memory import Phase, forward_bytes, frozen_bytes
from rlkit.plugin.loader import find_plugin, read_options_class, read_spec
from rlkit.plugin.references import is_reference
from rlkit.plugin.spec import PluginKind
from rlkit.types import HeldModel

if TYPE_CHECKING:
    from rlkit.pipelines.plan import Plan, PlannedRole

PARAMETERS, FORWARD = "reward model parameters", "reward model forward"


def with_reward_models(plan: Plan, section: RewardSection) -> Plan:
    """The plan as it is, or with the models of the reward functions in its roles and its memory."""
    notes = list(plan.notes)
    for name in section.functions:
        held = held_model(name, section)
        if held is not None:
            shape = known_shape(held.path, notes)
            roles = tuple(_role(role, name, held, shape, plan.device) for role in plan.roles)
            if not any(role.role == "reward" for role in roles):
                roles = (*roles, _new_role(name, held, shape, plan.device))
            phases = plan.phases if shape is None else _phases(plan, held, shape, notes)
            plan = replace(plan, roles=roles, phases=phases)
    return replace(plan, notes=tuple(notes))


def held_model(name: str, section: RewardSection) -> HeldModel | None:
    """What the options of a reward function say by their method `held_model`; None where they have none.

    Raises `PluginError` for a function that is not there, `ConfigError` for its options.
    """
    if is_reference(name):
        return None
    plugin = find_plugin(PluginKind.REWARD_FUNCTION, name)
    options_class = read_options_class(plugin, read_spec(plugin))
    if not hasattr(options_class, "held_model"):
        return None
    assert options_class is not None
    options = validate_section(options_class, section.options.get(name, {}), where=f"reward.options.{name}")
    held: HeldModel | None = options.held_model()
    return held


def _role(role: PlannedRole, name: str, held: HeldModel, shape: ModelShape | None, device: str) -> PlannedRole:
    if (role.role, role.plugin) != ("reward", name):
        return role
    parameters = None if shape is None else shape.num_parameters
    return replace(role, place=_place(held, device), model=held.path, parameters=parameters)


def _new_role(name: str, held: HeldModel, shape: ModelShape | None, device: str) -> PlannedRole:
    from rlkit.pipelines.plan import PlannedRole

    return _role(PlannedRole("reward", "", name, ""), name, held, shape, device)


def _place(held: HeldModel, device: str) -> str:
    where = device if held.device == "auto" else held.device
    if not held.replicas:
        return where
    count = "1 replica" if held.replicas == 1 else f"{held.replicas} replicas"
    return f"{count} on {where}" if where == "cpu" else f"{count} on GPUs of their own"


def _phases(plan: Plan, held: HeldModel, shape: ModelShape, notes: list[str]) -> tuple[Phase, ...]:
    """The plan's phases with the model in them where it is in the memory that they are about, and a phase of judging."""
    on_cpu = plan.device == "cpu"
    if not on_cpu and (held.replicas or held.device == "cpu"):
        notes.append(
            f"reward model {held.path} is elsewhere and not in the table: {_place(held, plan.device)}, "
            f"{frozen_bytes(shape, held.dtype):,} bytes of parameters each"
        )
        return plan.phases
    copies = max(1, held.replicas)
    stays = {PARAMETERS: copies * frozen_bytes(shape, held.dtype)}
    judging = {FORWARD: copies * forward_bytes(shape, held.batch_tokens, held.dtype, logit_tokens=0)}
    is_away = held.is_offloaded and not on_cpu
    phases = [phase if is_away else _with(phase, stays) for phase in plan.phases]
    place = next((index for index, phase in enumerate(phases) if phase.name == "rewards"), None)
    if place is not None:
        # Of two reward models the second computes when the first has finished.
        busiest = max(phases[place].parts.get(FORWARD, 0), judging[FORWARD])
        added = Phase("rewards", {**phases[place].parts, FORWARD: busiest})
        phases[place] = _with(added, stays) if is_away else added
        return tuple(phases)
    # What is in memory in every phase is there while answers are judged, too.
    always = {
        name: number
        for name, number in (plan.phases[0].parts.items() if plan.phases else ())
        if all(phase.parts.get(name) == number for phase in plan.phases)
    }
    return (*phases[:1], _with(Phase("rewards", {**always, **judging}), stays), *phases[1:])


def _with(phase: Phase, parts: dict[str, int]) -> Phase:
    sums = {name: phase.parts.get(name, 0) + number for name, number in parts.items()}
    return Phase(phase.name, {**phase.parts, **sums})
