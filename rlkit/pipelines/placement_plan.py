"""What `--dry-run` says of a run that is spread over workers: where each role is, and what one device must hold."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

from rlkit.pipelines.memory import Phase
from rlkit.pipelines.placement import PlacedGroup, check_placement, placed_groups, torchrun_size

if TYPE_CHECKING:
    from rlkit.config.runs import PPOConfig, SFTConfig
    from rlkit.pipelines.plan import Plan, PlannedRole

OF_A_PASS = ("activations", "logits", "forward")
"""Rows of the memory table that every worker has in full, for its own micro-batch."""

SHARDED = ("parameters", "optimizer", "gradients", "weights in ")
"""Beginnings of the rows that the workers of a model share out, after the role's name."""


def engine_copies(config: PPOConfig, copies: int, device: str) -> int:
    """Rollout engines in the memory that the plan is about; `copies`: without workers."""
    hybrid = config.placement.workers > 0 and config.rollout.placement == "in_process"
    return config.placement.workers if hybrid and device == "cpu" else copies


def with_placement(plan: Plan, config: SFTConfig | PPOConfig) -> Plan:
    """The plan as it is, or with the run's workers in it. Raises what the run would raise for its placement."""
    check_placement(config)
    groups = placed_groups(config)
    if not groups and torchrun_size():
        groups = (PlacedGroup(("model",), torchrun_size(), "torchrun"),)
    if not groups:
        return plan
    if plan.device == "cpu":
        phases = tuple(_of_the_machine(phase, groups[0].count) for phase in plan.phases)
        note = "memory is that of all workers together, as if they were on one machine"
    else:
        phases = tuple(_of_a_device(phase, groups) for phase in plan.phases if not _is_elsewhere(phase.name, groups))
        note = "memory is that of one GPU of the actor's; a role with workers of its own is not in it"
        if len(groups) == 1:
            note = "memory is that of one worker's GPU"
    roles = tuple(_placed(role, groups, plan.device) for role in plan.roles)
    return replace(plan, roles=roles, phases=phases, notes=(*plan.notes, note))


def _placed(role: PlannedRole, groups: tuple[PlacedGroup, ...], device: str) -> PlannedRole:
    if role.absent:
        return role
    # The critic that is part of the actor's network is in no group by itself.
    group = next((group for group in groups if role.role in group.roles), groups[0] if role.role == "critic" else None)
    if group is None:
        return role
    nodes = f" on {group.nodes} nodes" if group.nodes else ""
    kind = "cpu" if device == "cpu" else "a GPU each"
    return replace(role, place=f"{group}{nodes}, {kind}")


def _of_the_machine(phase: Phase, workers: int) -> Phase:
    return Phase(
        phase.name, {name: number * (workers if name in OF_A_PASS else 1) for name, number in phase.parts.items()}
    )


def _of_a_device(phase: Phase, groups: tuple[PlacedGroup, ...]) -> Phase:
    parts: Mapping[str, int] = {
        name: -(-number // groups[0].count) if _is_sharded(name) else number
        for name, number in phase.parts.items()
        if not _is_elsewhere(name, groups)
    }
    return Phase(phase.name, dict(parts))


def _is_sharded(name: str) -> bool:
    role, _, rest = name.partition(" ")
    return name.startswith(SHARDED) or (role in ("actor", "critic", "reference") and rest.startswith(SHARDED))


def _is_elsewhere(name: str, groups: tuple[PlacedGroup, ...]) -> bool:
    """Whether a phase or a row belongs to a role with workers of its own."""
    return any(name.startswith(f"{role} ") for group in groups[1:] for role in group.roles)
