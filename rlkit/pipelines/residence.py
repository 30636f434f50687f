"""Which models of a run leave their devices while nothing computes with them (`placement.offload_idle_models`)."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from rlkit.config.runs import PPOConfig
from rlkit.pipelines.memory import Phase, write_bytes

if TYPE_CHECKING:
    from rlkit.pipelines.plan import Plan
    from rlkit.pipelines.ppo import Roles
    from rlkit.trainers.residence import Movable, Residence, Role

PRESENT = {
    "rollout": (),
    "log-probs": ("actor", "value head"),
    "critic update": ("critic",),
    "actor update": ("actor", "value head"),
}
"""Phases of the memory table, and the models that are on the device then."""

RESIDENT = ("parameters", "optimizer")
"""Rows of the memory table that belong to a model in every phase, after its name."""


def leaves_device(config: PPOConfig, role: Role) -> bool:
    """Whether the model of `role`, if it is one of its own, waits in host memory; with workers of its own it is in nobody's way."""
    placement = config.placement
    has_own_workers = {"actor": 0, "critic": placement.critic, "reference": placement.reference}[role]
    return placement.offload_idle_models and not has_own_workers


def send_away(config: PPOConfig, role: Role, model: Movable) -> None:
    """Before the next one is built: they are never all on the device."""
    if leaves_device(config, role):
        model.offload()


def build_residence(config: PPOConfig, roles: Roles) -> Residence:
    """Of models that `send_away` has seen."""
    from rlkit.trainers.residence import Residence

    reference = roles.actor if roles.base_is_reference else roles.reference
    models: dict[Role, Movable | None] = {"actor": roles.actor, "critic": roles.critic, "reference": reference}
    return Residence(
        {role: model for role, model in models.items() if model is not None and leaves_device(config, role)}
    )


def with_idle_models_away(plan: Plan, config: PPOConfig) -> Plan:
    """The plan with each phase's memory less the models that wait on the host; as it is where they stay, and on a CPU."""
    if not config.placement.offload_idle_models or plan.device == "cpu" or not plan.phases:
        return plan
    everything = plan.phases[0].parts
    waiting = sum(
        number for name, number in everything.items() if (role := _role_of(name)) and leaves_device(config, role)
    )
    phases = [_without_idle(phase) for phase in plan.phases]
    name = "reference parameters"
    if name in everything:
        log_probs = next(phase for phase in phases if phase.name == "log-probs").parts
        others = {part: number for part, number in log_probs.items() if not _model_of(part)}
        phases.insert(2, Phase("reference log-probs", {name: everything[name], **others}))
    note = f"models that wait take {write_bytes(waiting)} of host memory (placement.offload_idle_models)"
    return replace(plan, phases=tuple(phases), notes=(*plan.notes, note))


def _without_idle(phase: Phase) -> Phase:
    present = PRESENT[phase.name]
    return Phase(
        phase.name,
        {name: number for name, number in phase.parts.items() if not _model_of(name) or _model_of(name) in present},
    )


def _role_of(row: str) -> Role | None:
    roles: dict[str, Role] = {"actor": "actor", "value head": "actor", "critic": "critic", "reference": "reference"}
    return roles.get(_model_of(row))


def _model_of(row: str) -> str:
    """Whose memory a row of the table is; empty: it goes with the phase, or is the engine's."""
    model, _, rest = row.rpartition(" ")
    return model if rest in RESIDENT and model in ("actor", "critic", "reference", "value head") else ""
