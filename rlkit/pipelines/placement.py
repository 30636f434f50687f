"""Which processes a training run asks for, and what can be refused before any of them is started."""

from __future__ import annotations

import importlib.util
import os
from dataclasses import dataclass
from typing import Any

from rlkit.config import PluginOptions
from rlkit.config.errors import validate_section
from rlkit.config.placement_section import PPOPlacementSection
from rlkit.config.runs import PPOConfig, SFTConfig
from rlkit.config.sections import RunSection
from rlkit.errors import ConfigError, MissingRequirementError, RLKitError
from rlkit.models.locate import base_and_adapter, locate_model
from rlkit.models.registry import choose_family
from rlkit.models.shape import read_config_json
from rlkit.pipelines.algorithms import needs_of
from rlkit.plugin import PluginKind
from rlkit.plugin.loader import find_plugin, load_spec, read_options_class, read_spec
from rlkit.plugin.references import is_file_reference, is_reference


@dataclass(frozen=True)
class PlacedGroup:
    """Workers that are in one process group: `roles` are the models that they are for, `key` says how many they are."""

    roles: tuple[str, ...]
    count: int
    key: str
    nodes: int = 0

    def __str__(self) -> str:
        return f"{self.count} worker{'s' if self.count > 1 else ''}"


def placed_groups(config: SFTConfig | PPOConfig) -> tuple[PlacedGroup, ...]:
    """The groups of the run, the one with its main model first; none: it trains in its own process."""
    section = config.placement
    if not section.workers:
        return ()
    if isinstance(config, SFTConfig) or not isinstance(section, PPOPlacementSection):
        return (PlacedGroup(("model",), section.workers, "placement.workers", section.nodes),)
    beside = ["actor"]
    own = []
    for role, count, is_there in (
        ("critic", section.critic, needs_of(config).critic and not config.critic.shared_trunk),
        ("reference", section.reference, config.uses_reference and not config.base_is_reference),
    ):
        if count:
            own.append(PlacedGroup((role,), count, f"placement.{role}"))
        elif is_there:
            beside.append(role)
    if config.rollout.placement == "in_process":
        beside.append("rollout engine")
    return (PlacedGroup(tuple(beside), section.workers, "placement.workers", section.nodes), *own)


def backend_of(config: SFTConfig | PPOConfig) -> tuple[str, dict[str, Any], str]:
    """The actor backend, its options, and their config path."""
    if isinstance(config, SFTConfig):
        return config.sft.backend, config.sft.options, "sft.options"
    return config.actor.backend, config.actor.options, "actor.options"


def backend_options(config: SFTConfig | PPOConfig) -> PluginOptions | None:
    """The actor backend's own options, as it reads them; None: it has none, or is a user's file."""
    name, options, where = backend_of(config)
    if is_reference(name):
        return None
    plugin = find_plugin(PluginKind.ACTOR_BACKEND, name)
    options_class = read_options_class(plugin, read_spec(plugin))
    return None if options_class is None else validate_section(options_class, options, where=where)


def shipped_names(config: SFTConfig | PPOConfig) -> list[str]:
    """Plugins in the user's files that the workers need."""
    names = [backend_of(config)[0], config.model.family]
    if isinstance(config, PPOConfig):
        names += [config.rollout.engine, config.algorithm.policy_loss]
    return [name for name in dict.fromkeys(names) if is_file_reference(name)]


def worker_distributions(config: SFTConfig | PPOConfig) -> list[str]:
    """Installed distributions that decide what the workers compute, besides those that every run needs."""
    plugins = [(PluginKind.ACTOR_BACKEND, backend_of(config)[0])]
    paths, loras = [config.model.path], []
    if isinstance(config, SFTConfig):
        loras += [config.sft.lora]
    else:
        plugins += [(PluginKind.POLICY_LOSS, config.algorithm.policy_loss)]  # advantages are the driver's
        paths += [config.critic.path, config.reference.path]
        loras += [config.actor.lora, config.critic.lora]
    for path in filter(None, paths):
        plugins.append((PluginKind.MODEL_FAMILY, choose_family(locate_model(path), family=config.model.family)))
    found = [find_plugin(kind, name).distribution for kind, name in plugins if not is_reference(name)]
    if any(lora.rank for lora in loras):
        found.append("peft")
    return list(dict.fromkeys(found))


def torchrun_size() -> int:
    """Processes that torchrun has started for this run; 0 without torchrun, and when it has started this one alone."""
    if "TORCHELASTIC_RUN_ID" not in os.environ:
        return 0
    size = int(os.environ.get("WORLD_SIZE", "1"))
    return size if size > 1 else 0


def check_placement(config: SFTConfig | PPOConfig) -> None:
    """Raises `ConfigError` for a placement that cannot be, `MissingRequirementError` without Ray where it takes Ray."""
    groups, ranks = placed_groups(config), torchrun_size()
    if ranks:
        _check_torchrun(config, groups, ranks)
    _check_options(config, {group.count for group in groups} or {max(ranks, 1)})
    if not groups and not ranks:
        return
    backend, _, _ = backend_of(config)
    most, key = max(((group.count, group.key) for group in groups), default=(ranks, "torchrun's --nproc-per-node"))
    if most > 1 and not load_spec(PluginKind.ACTOR_BACKEND, backend).many_devices:
        raise ConfigError(f"{key} = {most}, but actor backend '{backend}' trains on one device; set it to 1")
    if not groups:
        return
    if importlib.util.find_spec("ray") is None:
        raise MissingRequirementError("placement.workers needs Ray: pip install 'rlkit-llm[ray]'")
    _check_device(config.run)
    if isinstance(config, PPOConfig):
        _check_roles(config)


def _check_options(config: SFTConfig | PPOConfig, counts: set[int]) -> None:
    """Let the backend's options look at the models and at the numbers of processes, where they want to."""
    check = getattr(backend_options(config), "check", None)
    if check is None:
        return
    for path, adapter_rank in _models_of_roles(config):
        try:
            folder = locate_model(base_and_adapter(path)[0], with_weights=False, download=False)
            model = read_config_json(folder)
        except RLKitError:
            continue  # whoever opens the model says what is wrong with it
        for count in sorted(counts):
            check(model, processes=count, family=config.model.family, adapter_rank=adapter_rank)


def _models_of_roles(config: SFTConfig | PPOConfig) -> list[tuple[str, int]]:
    """Paths of the models that the backend builds, and the ranks of the adapters on them; 0: it is trained whole, or not."""
    if isinstance(config, SFTConfig):
        return [(config.model.path, config.sft.lora.rank)]
    found = [(config.model.path, config.actor.lora.rank)]
    if needs_of(config).critic and not config.critic.shared_trunk:
        found.append((config.critic.path or config.model.path, config.critic.lora.rank))
    if config.uses_reference and not config.base_is_reference:
        found.append((config.reference.path or config.model.path, 0))
    return list(dict.fromkeys(found))


def _check_torchrun(config: SFTConfig | PPOConfig, groups: tuple[PlacedGroup, ...], ranks: int) -> None:
    if isinstance(config, PPOConfig):
        raise ConfigError(
            f"torchrun started {ranks} processes, but `rlkit train ppo` is spread by Ray: start it without torchrun, with "
            f"placement.workers = {ranks}"
        )
    if groups:
        raise ConfigError(
            f"torchrun started {ranks} processes and placement.workers = {config.placement.workers} asks for Ray's; leave "
            "out one of the two"
        )


def _check_device(run: RunSection) -> None:
    if ":" in run.device:
        raise ConfigError(
            f"run.device = {run.device}, but Ray chooses the GPU of each worker; set run.device to cuda, or "
            "placement.workers to 0"
        )


def _check_roles(config: PPOConfig) -> None:
    placement = config.placement
    if placement.critic and not needs_of(config).critic:
        raise ConfigError(
            f"placement.critic = {placement.critic}, but algorithm.advantage = {config.algorithm.advantage} reads no "
            "critic; set it to 0"
        )
    if placement.critic and config.critic.shared_trunk:
        raise ConfigError(
            f"placement.critic = {placement.critic}, but with critic.shared_trunk the critic is part of the actor; set it "
            "to 0"
        )
    if placement.reference and not config.uses_reference:
        raise ConfigError(
            f"placement.reference = {placement.reference}, but algorithm.kl_in_reward and kl_loss are 0, so that there is "
            "no reference; set it to 0"
        )
    if placement.reference and config.base_is_reference:
        raise ConfigError(
            f"placement.reference = {placement.reference}, but with actor.lora the reference is the actor without its "
            "adapter; set it to 0"
        )
    rollout = config.rollout
    if rollout.placement == "colocated" and rollout.devices_per_replica > 1:
        raise ConfigError(
            f"rollout.devices_per_replica = {rollout.devices_per_replica} with rollout.placement = colocated and "
            "placement.workers: each replica shares the device of one worker; set it to 1, or choose standalone"
        )
