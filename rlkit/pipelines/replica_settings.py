"""How many replicas of a rollout engine a run asks for, and what can be refused before Ray is started."""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from typing import Any

from rlkit.config.generation_section import GenerationSection
from rlkit.config.ppo_sections import RolloutSection
from rlkit.errors import ConfigError, MissingRequirementError
from rlkit.plugin import PluginKind
from rlkit.plugin.loader import load_spec


@dataclass(frozen=True)
class ReplicaSettings:
    """How many replicas of an engine there are and where; `name` is the config section, for messages.

    shares_device: they compute on the driver's device, beside what it computes there.
    """

    name: str
    engine: str
    options: dict[str, Any]
    replicas: int
    devices_per_replica: int
    shares_device: bool = False


def rollout_replicas(section: RolloutSection) -> ReplicaSettings | None:
    """What `rollout` asks for; None: the engine is in this process."""
    if section.placement == "in_process":
        return None
    shares = section.placement == "colocated"
    return ReplicaSettings(
        "rollout", section.engine, section.options, section.replicas, section.devices_per_replica, shares
    )


def generation_replicas(section: GenerationSection) -> ReplicaSettings | None:
    """What `generation` asks for; None: the engine is in this process."""
    if section.replicas == 0:
        return None
    return ReplicaSettings("generation", section.engine, section.options, section.replicas, section.devices_per_replica)


def check_replicas(settings: ReplicaSettings, device: str) -> None:
    """What can be known before Ray is started; device: `run.device`.

    Raises `MissingRequirementError` without Ray, `ConfigError` for what cannot be.
    """
    if importlib.util.find_spec("ray") is None:
        raise MissingRequirementError("replicas of a rollout engine need Ray: pip install 'rlkit-llm[ray]'")
    if settings.name == "generation" and ":" in device:
        raise ConfigError(
            f"run.device = {device}, but Ray chooses the GPU of each replica; set run.device to cuda, or "
            "generation.replicas to 0"
        )
    wanted = settings.devices_per_replica
    if wanted > 1 and not load_spec(PluginKind.ROLLOUT_ENGINE, settings.engine).many_devices:
        raise ConfigError(
            f"{settings.name}.devices_per_replica = {wanted}, but rollout engine '{settings.engine}' computes on one "
            f"device; raise {settings.name}.replicas instead"
        )


def copies_beside_the_trainer(settings: ReplicaSettings | None, device: str) -> int:
    """Engines in the memory that the trainer uses: replicas with GPUs of their own are not in it."""
    if settings is None:
        return 1
    return settings.replicas if device == "cpu" or settings.shares_device else 0


def copies_on_a_device(settings: ReplicaSettings | None, device: str) -> int:
    """Engines in one device's memory, of a run without a trainer."""
    return settings.replicas if settings is not None and device == "cpu" else 1


def replica_place(settings: ReplicaSettings | None, device: str) -> str:
    """In words, for `--dry-run`."""
    if settings is None:
        return device
    count = "1 replica" if settings.replicas == 1 else f"{settings.replicas} replicas"
    if device == "cpu" or settings.shares_device:
        return f"{count} on {device}"
    gpus = "a GPU" if settings.devices_per_replica == 1 else f"{settings.devices_per_replica} GPUs"
    return f"{count}, {gpus} each"
