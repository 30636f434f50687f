"""What can be refused before anything heavy loads: missing values, files and plugins, wrong plugin options."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rlkit.errors import ConfigError, PluginError, PluginNotFoundError, RLKitError
from rlkit.pipelines.algorithms import check_algorithm
from rlkit.pipelines.batch_limits import check_context, check_ppo_context
from rlkit.pipelines.evaluation_settings import evaluates_models
from rlkit.plugin.loader import check_api_version, find_plugin, missing_requirements, read_options_class, read_spec
from rlkit.plugin.references import is_file_reference, is_reference
from rlkit.plugin.requirements import check_required_plugins
from rlkit.plugin.spec import PluginKind

if TYPE_CHECKING:
    from rlkit.config.load import Resolved


@dataclass(frozen=True)
class Required:
    """A key that has no default that could work, and how to give it."""

    key: str
    flag: str
    what: str


REQUIRED: Mapping[str, tuple[Required, ...]] = {
    "sft": (
        Required("model.path", "--model", "a model folder or Hub id"),
        Required("data.train", "--data", "a file of conversations"),
    ),
    "ppo": (
        Required("model.path", "--model", "a model folder or Hub id"),
        Required("data.train", "--data", "a file of prompts"),
        Required("reward.functions", "--reward", "a reward plugin or file.py:function"),
    ),
    "generate": (
        Required("model.path", "--model", "a model folder or Hub id"),
        Required("generation.prompts", "--data", "a file of prompts"),
    ),
    "serve": (Required("model.path", "--model", "a model folder or Hub id"),),
    "eval": (
        Required("evaluation.completions", "COMPLETIONS", "a model with --model and --prompts, or a completions file"),
    ),
}


CALLABLE_KINDS = (PluginKind.REWARD_FUNCTION, PluginKind.ADVANTAGE_ESTIMATOR, PluginKind.POLICY_LOSS)
"""Kinds whose plugins may be plain functions, with options that are parameters."""


TAKES_ADAPTERS = ("generate", "serve", "eval")
"""Runs whose model may be an adapter's folder."""


@dataclass(frozen=True)
class Selection:
    """A plugin that the run selects by name, and the options for it."""

    kind: PluginKind
    name: str
    options: Mapping[str, Any]
    where: str  # config path of the options


def selections(resolved: Resolved) -> Iterator[Selection]:
    """Every plugin that the config names."""
    config = resolved.config
    if resolved.kind == "sft":
        yield Selection(PluginKind.ACTOR_BACKEND, config.sft.backend, config.sft.options, "sft.options")
    if resolved.kind == "ppo":
        yield Selection(PluginKind.ACTOR_BACKEND, config.actor.backend, config.actor.options, "actor.options")
        yield Selection(PluginKind.ROLLOUT_ENGINE, config.rollout.engine, config.rollout.options, "rollout.options")
        algorithm = config.algorithm
        options = algorithm.advantage_options
        yield Selection(PluginKind.ADVANTAGE_ESTIMATOR, algorithm.advantage, options, "algorithm.advantage_options")
        options = algorithm.policy_loss_options
        yield Selection(PluginKind.POLICY_LOSS, algorithm.policy_loss, options, "algorithm.policy_loss_options")
    if resolved.kind == "generate":
        section = config.generation
        yield Selection(PluginKind.ROLLOUT_ENGINE, section.engine, section.options, "generation.options")
    if resolved.kind == "serve":
        yield Selection(PluginKind.ROLLOUT_ENGINE, config.serve.engine, config.serve.options, "serve.options")
    if resolved.kind == "eval" and config.asks_models:
        section = config.generation
        yield Selection(PluginKind.ROLLOUT_ENGINE, section.engine, section.options, "generation.options")
    if resolved.kind == "ppo" or (resolved.kind == "eval" and not config.evaluation.tasks):
        for name in config.reward.functions:
            options = config.reward.options.get(name, {})
            yield Selection(PluginKind.REWARD_FUNCTION, name, options, f"reward.options.{name}")
    if resolved.kind == "eval":
        for name in dict.fromkeys(name for names in config.evaluation.rewards.values() for name in names):
            options = config.evaluation.reward_options.get(name, {})
            yield Selection(PluginKind.REWARD_FUNCTION, name, options, f"evaluation.reward_options.{name}")
    if config.model.family != "auto":
        yield Selection(PluginKind.MODEL_FAMILY, config.model.family, {}, "model.family")
    for name in () if resolved.kind == "serve" else config.run.hooks:
        options = config.run.hook_options.get(name, {})
        yield Selection(PluginKind.HOOK, name, options, f"run.hook_options.{name}")


def check_run(resolved: Resolved) -> None:
    """Raises the fault, or all of them together: one line each, the exit code of the first."""
    checks: list[Callable[[], None]] = [
        lambda: check_required_values(resolved),
        lambda: check_required_plugins(resolved.config.run.required_plugins),
        *(partial(check_selection, selection) for selection in selections(resolved)),
        *(partial(check_data, paths) for paths in data_paths(resolved)),
        lambda: check_model(resolved),
        lambda: check_context_length(resolved),
        lambda: check_adapters_of(resolved),
        lambda: check_algorithm_of(resolved),
        lambda: check_reference_of(resolved),
        lambda: check_replicas_of(resolved),
        lambda: check_placement_of(resolved),
        lambda: check_conversation_of(resolved),
        lambda: check_server_of(resolved),
        lambda: check_evaluation_of(resolved),
    ]
    faults: list[RLKitError] = []
    for check in checks:
        try:
            check()
        except RLKitError as error:
            faults.append(error)
    if len(faults) == 1:
        raise faults[0]
    if faults:
        lines = dict.fromkeys(str(fault) for fault in faults)
        raise type(faults[0])("\n".join(lines)) from faults[0]


def check_required_values(resolved: Resolved) -> None:
    """Raises `ConfigError` for every key that must be given and is not."""
    lines = []
    for required in REQUIRED[resolved.kind]:
        section, _, name = required.key.partition(".")
        if required.key == "reward.functions" and resolved.config.rollout.environment:
            continue  # the environment rewards
        if required.key == "evaluation.completions" and evaluates_models(resolved.config):
            continue
        if not getattr(getattr(resolved.config, section), name):
            file = f" in {resolved.file}" if resolved.file is not None else " in a project file"
            lines.append(f"{required.key} is missing: give {required.what} with {required.flag}, or set it{file}")
    if lines:
        raise ConfigError("\n".join(lines))


def check_selection(selection: Selection) -> None:
    """Raises `PluginError` for a plugin that cannot be used and `ConfigError` for wrong options; imports no target."""
    name = selection.name
    if is_reference(name):
        if is_file_reference(name):
            path = Path(name.rpartition(":")[0]).expanduser()
            if not path.is_file():
                raise PluginNotFoundError(f"{selection.kind.label} '{name}': file {path} does not exist")
        return
    plugin = find_plugin(selection.kind, name)
    spec = read_spec(plugin)
    check_api_version(plugin, spec)
    absent = missing_requirements(spec)
    if absent:
        hint = spec.install_hint or f"pip install {' '.join(absent)}"
        raise PluginError(f"{selection.kind.label} '{name}' from {plugin.origin} needs {', '.join(absent)}; {hint}")
    options_class = read_options_class(plugin, spec)
    if options_class is not None:
        from rlkit.config.errors import validate_section

        validate_section(options_class, selection.options, where=selection.where)
    elif selection.options and selection.kind not in CALLABLE_KINDS:
        from rlkit.config.errors import refuse_options

        refuse_options(selection.options, where=selection.where, plugin=f"{selection.kind.label} '{name}'")


def data_paths(resolved: Resolved) -> Iterator[Sequence[str]]:
    """Groups of data files that the run reads."""
    config = resolved.config
    if resolved.kind in ("sft", "ppo"):
        yield config.data.train
        yield config.data.validation
    elif resolved.kind in ("generate", "eval"):
        yield config.generation.prompts


def check_data(paths: Sequence[str]) -> None:
    """Raises `DataError` for a file that does not exist or cannot be read."""
    from rlkit.data.files import check_sources

    check_sources(paths)


def check_model(resolved: Resolved) -> None:
    """Raises `ModelError` for local folders that hold no model; Hub ids are looked up when the run starts."""
    from rlkit.models.locate import base_and_adapter, check_model_path

    config = resolved.config
    others: Sequence[str] = ()
    if resolved.kind == "ppo":
        others = (config.critic.path, config.reference.path)
    elif resolved.kind == "eval":
        others = config.evaluation.models
    for path in filter(None, [config.model.path, *others]):
        check_model_path(base_and_adapter(path)[0] if resolved.kind in TAKES_ADAPTERS else path)


def check_adapters_of(resolved: Resolved) -> None:
    """Raises `ModelError` for an adapter on layers that a local model does not have."""
    from rlkit.models.locate import model_inside

    config, sections = resolved.config, []
    if resolved.kind == "sft":
        sections = [("sft", config.sft, config.model.path)]
    elif resolved.kind == "ppo":
        sections = [
            ("actor", config.actor, config.model.path),
            ("critic", config.critic, config.critic.path or config.model.path),
        ]
    for name, section, path in sections:
        folder = model_inside(Path(path).expanduser()) if path else None
        # All linear layers are there in every model; only names need one, and PyTorch, to be looked at.
        if section.lora.rank == 0 or section.lora.targets == ("all_linear",) or folder is None:
            continue
        from rlkit.models.adapted_layers import check_targets

        check_targets(
            folder,
            section.lora.targets,
            key=f"{name}.lora.targets",
            head="value" if name == "critic" else "causal_lm",
            trust_remote_code=config.model.trust_remote_code,
        )


def check_algorithm_of(resolved: Resolved) -> None:
    """Raises `ConfigError` when estimator or loss do not go with the rest, `PluginError` when they cannot be had."""
    if resolved.kind == "ppo":
        check_algorithm(resolved.config)


def check_replicas_of(resolved: Resolved) -> None:
    """Raises `MissingRequirementError` for replicas without Ray, `ConfigError` for ones that the engine cannot be."""
    from rlkit.pipelines.replica_settings import check_replicas, generation_replicas, rollout_replicas

    settings = None
    if resolved.kind == "ppo":
        settings = rollout_replicas(resolved.config.rollout)
    elif resolved.kind in ("generate", "eval"):
        settings = generation_replicas(resolved.config.generation)
    if settings is not None:
        check_replicas(settings, resolved.config.run.device)


def check_placement_of(resolved: Resolved) -> None:
    """Raises `ConfigError` for workers that cannot be, `MissingRequirementError` for workers without Ray."""
    from rlkit.pipelines.placement import check_placement

    if resolved.kind in ("sft", "ppo"):
        check_placement(resolved.config)


def check_reference_of(resolved: Resolved) -> None:
    """Raises `ConfigError` for a reference that could not follow the actor."""
    from rlkit.pipelines.moving_reference import check_reference_path

    if resolved.kind == "ppo":
        check_reference_path(resolved.config)


def check_conversation_of(resolved: Resolved) -> None:
    """Raises `PluginNotFoundError` for tools or an environment in a file that does not exist."""
    from rlkit.pipelines.conversations import check_references

    if resolved.kind == "ppo":
        check_references(resolved.config.rollout, name="rollout")
    elif resolved.kind in ("generate", "eval"):
        check_references(resolved.config.generation, name="generation")


def check_server_of(resolved: Resolved) -> None:
    """Raises `ConfigError` for a key that is not there, `MissingRequirementError` without the server's packages."""
    from rlkit.pipelines.server_settings import check_server

    if resolved.kind == "serve":
        check_server(resolved.config.serve)


def check_evaluation_of(resolved: Resolved) -> None:
    """Raises `ConfigError` for an evaluation of nothing, `MissingRequirementError` for tasks without the harness."""
    from rlkit.pipelines.evaluation_settings import check_evaluation

    if resolved.kind == "eval":
        check_evaluation(resolved.config)


def check_context_length(resolved: Resolved) -> None:
    """Raises `ConfigError` when the longest prompt and answer do not fit a local model's context together."""
    from rlkit.models.locate import base_and_adapter, model_inside
    from rlkit.models.shape import read_config_json, shape_of

    config = resolved.config
    if resolved.kind not in ("ppo", "generate") or not config.model.path:
        return
    path = base_and_adapter(config.model.path)[0] if resolved.kind in TAKES_ADAPTERS else config.model.path
    folder = model_inside(Path(path).expanduser())
    if folder is None:
        return
    context_length = shape_of(read_config_json(folder), str(folder)).context_length
    if resolved.kind == "ppo":
        check_ppo_context(config, context_length)
        return
    check_context(
        config.generation.max_prompt_tokens,
        config.generation.max_response_tokens,
        context_length,
        keys=("generation.max_prompt_tokens", "generation.max_response_tokens"),
    )
