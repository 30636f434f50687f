"""What a run would be made of, worked out without loading anything: `--dry-run`."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rlkit.config.ppo_sections import RolloutSection
from rlkit.config.runs import EvalConfig, GenerateConfig, PPOConfig, ServeConfig, SFTConfig
from rlkit.config.sections import ModelSection, OptimizedSection, ProcessSection, RunSection
from rlkit.errors import RLKitError
from rlkit.models.locate import base_and_adapter, locate_model
from rlkit.models.registry import choose_family
from rlkit.models.shape import ModelShape
from rlkit.pipelines.algorithms import needs_of
from rlkit.pipelines.batch_limits import check_enough_prompts, largest_micro_batch, most_micro_batches
from rlkit.pipelines.engine_memory import engine_limits, engine_notes
from rlkit.pipelines.evaluation_settings import evaluated_models, evaluation_arithmetic, result_file
from rlkit.pipelines.known_shape import known_shape
from rlkit.pipelines.memory import (
    KV_CACHE,
    AdapterSize,
    EngineLimits,
    Phase,
    activation_bytes,
    adapter_size,
    cast_bytes,
    forward_bytes,
    frozen_bytes,
    gradient_bytes,
    logit_bytes,
    rollout_bytes,
    trained_bytes,
    value_head_bytes,
    value_model_parameters,
)
from rlkit.pipelines.pass_tokens import largest_pass
from rlkit.pipelines.placement_plan import engine_copies, with_placement
from rlkit.pipelines.preflight import selections
from rlkit.pipelines.replica_settings import (
    copies_beside_the_trainer,
    copies_on_a_device,
    generation_replicas,
    replica_place,
    rollout_replicas,
)
from rlkit.pipelines.residence import with_idle_models_away
from rlkit.pipelines.reward_plan import with_reward_models
from rlkit.plugin.loader import find_plugin
from rlkit.plugin.references import is_reference
from rlkit.plugin.spec import PluginKind

if TYPE_CHECKING:
    from rlkit.config.load import Resolved

COUNT_LIMIT_BYTES = 64 * 2**20
"""Larger data files are not read to count their rows: a dry run answers within seconds."""


@dataclass(frozen=True)
class PlannedPlugin:
    kind: str
    name: str
    distribution: str
    version: str


@dataclass(frozen=True)
class PlannedRole:
    """One model or engine of the run. `absent` says why there is none, and is empty when there is."""

    role: str
    place: str
    plugin: str
    model: str
    parameters: int | None = None
    absent: str = ""


@dataclass(frozen=True)
class Plan:
    """Everything that --dry-run prints."""

    kind: str
    run: str
    device: str
    plugins: tuple[PlannedPlugin, ...]
    roles: tuple[PlannedRole, ...]
    arithmetic: tuple[tuple[str, str], ...]
    data: tuple[tuple[str, str], ...]
    phases: tuple[Phase, ...]
    device_bytes: int | None = None
    notes: tuple[str, ...] = field(default=())

    @property
    def peak_bytes(self) -> int:
        return max((phase.total_bytes for phase in self.phases), default=0)

    def as_json(self) -> dict[str, Any]:
        phases = [{**asdict(phase), "total_bytes": phase.total_bytes} for phase in self.phases]
        return {**asdict(self), "phases": phases, "peak_bytes": self.peak_bytes}


def build_plan(resolved: Resolved) -> Plan:
    """Reads config files, file headers and metadata only. Raises what the run itself would raise for them."""
    config = resolved.config
    if isinstance(config, SFTConfig):
        return with_placement(_plan_sft(resolved, config), config)
    if isinstance(config, PPOConfig):
        return with_reward_models(
            with_placement(with_idle_models_away(_plan_ppo(resolved, config), config), config), config.reward
        )
    if isinstance(config, GenerateConfig):
        return _plan_generate(resolved, config)
    if isinstance(config, ServeConfig):
        return _plan_serve(resolved, config)
    assert isinstance(config, EvalConfig)
    data = tuple((path, _rows_text(path)) for path in config.evaluation.completions)
    data += _data(("prompts", config.generation.prompts))
    device = planned_device(config.run) if config.asks_models else "cpu"
    roles = tuple(
        PlannedRole("evaluated model", device, config.generation.engine, model.path)
        for model in evaluated_models(config)
    )
    output = str(result_file(config) or "")
    arithmetic = evaluation_arithmetic(config)
    plan = Plan("eval", _output(output), device, _plugins(resolved, config.model), roles, arithmetic, data, ())
    return with_reward_models(plan, config.reward)


def _plan_sft(resolved: Resolved, config: SFTConfig) -> Plan:
    device, notes = planned_device(config.run), model_notes(config.model)
    shape = known_shape(config.model.path, notes)
    rows = _count(config.data.train, config.data.limit)
    steps = config.sft.steps or (None if rows is None else math.ceil(config.sft.epochs * rows / config.sft.batch_size))
    longest = config.data.max_length if shape is None else min(config.data.max_length, shape.context_length)
    batch, budget = config.sft.batch_size, largest_pass(config, config.sft.micro_batch_tokens, device=device)
    tokens = largest_micro_batch(batch, longest, budget)
    arithmetic = (
        (
            "conversations",
            "not counted (large file)" if rows is None else f"{rows:,}, {plural(config.sft.epochs, 'epoch')}",
        ),
        ("batch", f"{config.sft.batch_size} conversations, packed without padding"),
        (
            "micro-batches",
            f"at most {most_micro_batches(batch, longest, budget):,} of {max(budget, longest):,} tokens "
            f"(longest conversation {longest:,})",
        ),
        ("optimizer steps", "unknown" if steps is None else f"{steps:,}"),
    )
    roles = (
        PlannedRole(
            "model", device, config.sft.backend, config.model.path, None if shape is None else shape.num_parameters
        ),
    )
    phases: tuple[Phase, ...] = ()
    if shape is not None:
        adapter = _adapter(shape, config.sft, config.model)
        update = {
            **trained_bytes(shape, adapter=adapter),
            **_cast_part(shape, config.model.dtype, adapter),
            "gradients": gradient_bytes(shape, adapter=adapter),
            "activations": activation_bytes(
                shape, tokens, config.model.dtype, checkpointing=config.sft.gradient_checkpointing
            ),
            "logits": logit_bytes(shape, tokens),
        }
        phases = (Phase("update", update),)
    data = _data(("train", config.data.train), ("validation", config.data.validation))
    return Plan(
        "sft", _folder(config.run, "sft"), device, _plugins(resolved, config.model), roles, arithmetic, data, phases,
        device_memory(device), tuple(notes),
    )  # fmt: skip


def _plan_ppo(resolved: Resolved, config: PPOConfig) -> Plan:
    device, notes = planned_device(config.run), model_notes(config.model)
    shape = known_shape(config.model.path, notes)
    rows = _count(config.data.train, config.data.limit)
    if rows is not None:
        check_enough_prompts(config.rollout.prompts_per_step, rows)
    needs = needs_of(config)
    critic_path = config.critic.path or config.model.path
    critic = known_shape(critic_path, notes) if needs.critic and not config.critic.shared_trunk else None
    reference_path = config.reference.path or config.model.path
    loads_reference = config.uses_reference and not config.base_is_reference
    reference = known_shape(reference_path, notes) if loads_reference else None
    roles = (
        PlannedRole("actor", device, config.actor.backend, config.model.path, _parameters(shape)),
        _planned_critic(config, device, shape, critic),
        PlannedRole("reference", device, config.actor.backend, reference_path, _parameters(reference))
        if loads_reference
        else PlannedRole("reference", "", "", "", absent=_reference_absent(config)),
        PlannedRole(
            "rollout engine",
            replica_place(rollout_replicas(config.rollout), device),
            config.rollout.engine,
            config.model.path,
            _parameters(shape),
        ),
        *(PlannedRole("reward", "this process", name, "") for name in config.reward.functions),
    )
    copies = engine_copies(config, copies_beside_the_trainer(rollout_replicas(config.rollout), device), device)
    section = config.rollout
    limits = engine_limits(section.engine, section.options, where="rollout.options", device=device)
    notes += engine_notes(section.engine, limits)
    phases = (
        () if shape is None else _ppo_phases(config, device, shape, critic, reference, engines=copies, limits=limits)
    )
    return Plan(
        "ppo", _folder(config.run, "ppo"), device, _plugins(resolved, config.model), roles, _ppo_arithmetic(config, device),
        _data(("train", config.data.train), ("validation", config.data.validation)), phases, device_memory(device),
        tuple(notes),
    )  # fmt: skip


def _reference_absent(config: PPOConfig) -> str:
    return "the actor without its adapter" if config.base_is_reference else "kl_in_reward and kl_loss are 0"


def _planned_critic(config: PPOConfig, device: str, actor: ModelShape | None, critic: ModelShape | None) -> PlannedRole:
    if not needs_of(config).critic:
        return PlannedRole("critic", "", "", "", absent=f"advantage = {config.algorithm.advantage} reads no values")
    if config.critic.shared_trunk:
        parameters = None if actor is None else actor.hidden_size
        return PlannedRole("critic", device, config.actor.backend, "a head on the actor's trunk", parameters)
    path = config.critic.path or config.model.path
    return PlannedRole("critic", device, config.actor.backend, path, _value_parameters(critic))


def _ppo_arithmetic(config: PPOConfig, device: str) -> tuple[tuple[str, str], ...]:
    longest = config.data.max_prompt_tokens + config.rollout.max_response_tokens
    per_epoch, epochs = config.mini_batches, config.algorithm.epochs
    budget = largest_pass(config, config.actor.micro_batch_tokens, device=device)
    micro = most_micro_batches(config.mini_batch_samples, longest, budget)
    steps = per_epoch * epochs
    iterations = config.trainer.steps
    rounds = config.algorithm.sampling_rounds
    more = f", replaced in up to {rounds} rounds when they teach nothing" if rounds > 1 else ""
    greedy = ", and one greedy answer to each prompt" if needs_of(config).greedy_baseline else ""
    return (
        ("prompts", f"{config.rollout.prompts_per_step:,} a step{more}"),
        (
            "samples",
            f"{config.samples_per_step:,} a step = {config.rollout.prompts_per_step:,} prompts x "
            f"{config.rollout.samples_per_prompt} samples{greedy}",
        ),
        *_conversations(config.rollout),
        ("mini-batches", f"{per_epoch} of {config.mini_batch_samples:,} samples, {plural(epochs, 'epoch')}"),
        (
            "micro-batches",
            f"at most {micro:,} of {max(budget, longest):,} tokens for each (longest prompt + answer {longest:,})",
        ),
        (
            "optimizer steps",
            f"{'at most ' if config.algorithm.target_kl else ''}{steps} a step x {iterations:,} steps = {steps * iterations:,}",
        ),
    )


def _conversations(section: RolloutSection) -> Iterator[tuple[str, str]]:
    """With whom each sample talks, when it is a conversation."""
    if section.is_conversation:
        partners = ", ".join(filter(None, [*section.tools, section.environment]))
        yield "conversations", f"up to {plural(section.max_turns, 'turn')} with {partners}"


def _ppo_phases(
    config: PPOConfig,
    device: str,
    shape: ModelShape,
    critic: ModelShape | None,
    reference: ModelShape | None,
    *,
    engines: int,
    limits: EngineLimits,
) -> tuple[Phase, ...]:
    """engines: copies of the rollout engine in the memory that the trainer uses."""
    dtype = config.model.dtype
    longest = config.data.max_prompt_tokens + config.rollout.max_response_tokens
    budget = largest_pass(config, config.actor.micro_batch_tokens, device=device)
    tokens = largest_micro_batch(config.mini_batch_samples, longest, budget)
    log_prob_tokens = largest_micro_batch(config.samples_per_step, longest, budget)
    adapter = _adapter(shape, config.actor, config.model)
    resident = {f"actor {name}": number for name, number in trained_bytes(shape, adapter=adapter).items()}
    if critic is not None:
        critic_adapter = _adapter(critic, config.critic, config.model)
        held = trained_bytes(critic, value_head=True, adapter=critic_adapter)
        resident |= {f"critic {name}": number for name, number in held.items()}
    head = value_head_bytes(shape) if config.critic.shared_trunk else {}
    resident |= {f"value head {name}": number for name, number in head.items()}
    if reference is not None:
        # What follows the actor in small steps is held in float32, as the actor is.
        resident["reference parameters"] = frozen_bytes(reference, "float32" if config.reference.moves else dtype)
    resident |= times(engines, {"engine parameters": frozen_bytes(shape, dtype), **limits.kept_bytes()})
    if engines and config.rollout.placement != "in_process":
        resident["weights in shared memory"] = 2 * frozen_bytes(shape, dtype)  # Ray frees the old ones late
    rollout = rollout_bytes(
        shape,
        answers=math.ceil(config.samples_per_step / max(engines, 1)),
        prompt_tokens=config.data.max_prompt_tokens,
        longest=longest,
        dtype=dtype,
        limits=limits,
    )
    casts = _cast_part(shape, dtype, adapter)
    forward = forward_bytes(shape, log_prob_tokens, dtype, logit_tokens=log_prob_tokens)
    phases = [
        Phase("rollout", {**resident, **times(engines, rollout)}),
        Phase("log-probs", {**resident, **casts, "forward": forward}),
    ]
    if critic is not None:
        budget = largest_pass(config, config.critic.micro_batch_tokens, device=device, role="critic")
        critic_tokens = largest_micro_batch(config.mini_batch_samples, longest, budget)
        checkpointing = config.critic.gradient_checkpointing
        update = {
            **_cast_part(critic, dtype, critic_adapter),
            "gradients": gradient_bytes(critic, value_head=True, adapter=critic_adapter),
            "activations": activation_bytes(critic, critic_tokens, dtype, checkpointing=checkpointing),
        }
        phases.append(Phase("critic update", {**resident, **update}))
    checkpointing = config.actor.gradient_checkpointing
    update = {
        **casts,
        "gradients": gradient_bytes(shape, adapter=adapter),
        "activations": activation_bytes(shape, tokens, dtype, checkpointing=checkpointing),
        "logits": logit_bytes(shape, tokens),
    }
    return (*phases, Phase("actor update", {**resident, **update}))


def _plan_generate(resolved: Resolved, config: GenerateConfig) -> Plan:
    device, notes, section = planned_device(config.run), model_notes(config.model), config.generation
    shape = known_shape(config.model.path, notes)
    rows = _count(section.prompts, section.limit)
    batches = None if rows is None else math.ceil(rows / section.batch_prompts)
    arithmetic = (
        ("prompts", "not counted (large file)" if rows is None else f"{rows:,}"),
        ("answers", f"{section.samples_per_prompt} to each prompt, up to {section.max_response_tokens:,} tokens"),
        ("batches", "unknown" if batches is None else f"{batches:,} of {section.batch_prompts} prompts"),
    )
    phases: tuple[Phase, ...] = ()
    limits = engine_limits(section.engine, section.options, where="generation.options", device=device)
    notes += engine_notes(section.engine, limits)
    if shape is not None:
        engines = copies_on_a_device(generation_replicas(section), device)
        # Of one engine a batch begins while the one before ends.
        begun = section.batch_prompts * (1 if section.replicas or section.is_conversation else 2)
        answers = min(begun, rows or begun) * section.samples_per_prompt
        rollout = rollout_bytes(
            shape,
            answers=math.ceil(answers / max(section.replicas, 1)),
            prompt_tokens=section.max_prompt_tokens,
            longest=section.max_prompt_tokens + section.max_response_tokens,
            dtype=config.model.dtype,
            limits=limits,
        )
        engine = {"engine parameters": frozen_bytes(shape, config.model.dtype), **rollout}
        phases = (Phase("rollout", times(engines, engine)),)
    place = replica_place(generation_replicas(section), device)
    role = PlannedRole("rollout engine", place, section.engine, config.model.path, _parameters(shape))
    return Plan(
        "generate", section.output, device, _plugins(resolved, config.model), (role,), arithmetic,
        _data(("prompts", section.prompts)), phases, device_memory(device), tuple(notes),
    )  # fmt: skip


def _plan_serve(resolved: Resolved, config: ServeConfig) -> Plan:
    device, notes, section = planned_device(config.run), model_notes(config.model), config.serve
    shape = known_shape(config.model.path, notes)
    context = "unknown" if shape is None else f"{shape.context_length:,} tokens of prompt and answer"
    arithmetic = (
        ("context", context),
        ("at once", f"up to {section.max_queue:,} answers in progress and waiting"),
        ("clients", f"send the key in {section.api_key_env}" if section.api_key_env else "need no key"),
        ("new weights", "from " + ", ".join(section.weights_folders) if section.weights_folders else "not accepted"),
    )
    # How much cache an engine takes that begins with none depends on who asks what, so it is not in the table.
    limits = engine_limits(section.engine, section.options, where="serve.options", device=device)
    notes += engine_notes(section.engine, limits)
    cache = {} if limits.cache_bytes is None else {KV_CACHE: limits.cache_bytes}
    weights: tuple[Phase, ...] = ()
    if shape is not None:
        weights = (Phase("serving", {"engine parameters": frozen_bytes(shape, config.model.dtype), **cache}),)
    role = PlannedRole("rollout engine", device, section.engine, config.model.path, _parameters(shape))
    return Plan(
        "serve", f"http://{section.host}:{section.port}", device, _plugins(resolved, config.model), (role,), arithmetic,
        (), weights, device_memory(device), tuple(notes),
    )  # fmt: skip


def times(copies: int, parts: Mapping[str, int]) -> dict[str, int]:
    """The bytes of several engines; nothing when there is none."""
    return {name: copies * number for name, number in parts.items()} if copies else {}


def planned_device(run: ProcessSection) -> str:
    """What `run.device` will mean here, as far as can be told without torch."""
    if run.device != "auto":
        return run.device
    return "cuda:0" if Path("/dev/nvidia0").exists() else "cpu"


def device_memory(device: str) -> int | None:
    """Bytes of the machine's memory for the CPU; a GPU's cannot be told without its driver."""
    if device != "cpu":
        return None
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (ValueError, OSError):
        return None


def model_notes(section: ModelSection) -> list[str]:
    if not section.trust_remote_code:
        return []
    return [f"model.trust_remote_code is on: Python code that comes with {section.path} will run"]


def _cast_part(shape: ModelShape, dtype: str, adapter: AdapterSize | None = None) -> dict[str, int]:
    """A row of the memory table in mixed precision, else nothing."""
    return {} if dtype == "float32" else {f"weights in {dtype}": cast_bytes(shape, dtype, adapter=adapter)}


def _adapter(shape: ModelShape, section: OptimizedSection, model: ModelSection) -> AdapterSize | None:
    return adapter_size(shape, section.lora.rank, section.lora.targets, model.dtype)


def _plugins(resolved: Resolved, model: ModelSection | None = None) -> tuple[PlannedPlugin, ...]:
    chosen = [(selection.kind, selection.name) for selection in selections(resolved)]
    if model is not None and model.family == "auto":
        try:
            folder = locate_model(base_and_adapter(model.path)[0], with_weights=False, download=False)
            chosen.insert(0, (PluginKind.MODEL_FAMILY, choose_family(folder)))
        except RLKitError:
            pass  # known_shape has told why
    return tuple(_planned(kind, name) for kind, name in dict.fromkeys(chosen))


def _planned(kind: PluginKind, name: str) -> PlannedPlugin:
    if is_reference(name):
        return PlannedPlugin(kind.label, name, "(file)" if ".py:" in name else "(module)", "")
    plugin = find_plugin(kind, name)
    return PlannedPlugin(kind.label, name, plugin.distribution, plugin.version)


def plural(count: int, word: str) -> str:
    """`1 epoch`, `2 epochs`."""
    return f"{count:,} {word}" if count == 1 else f"{count:,} {word}s"


def _parameters(shape: ModelShape | None) -> int | None:
    return None if shape is None else shape.num_parameters


def _value_parameters(shape: ModelShape | None) -> int | None:
    return None if shape is None else value_model_parameters(shape)


def _folder(run: RunSection, kind: str) -> str:
    return str(Path(run.output) / run.name_or(kind))


def _output(path: str) -> str:
    return path or "(printed only)"


def _data(*groups: tuple[str, tuple[str, ...]]) -> tuple[tuple[str, str], ...]:
    return tuple((f"{name}: {path}", _rows_text(path)) for name, paths in groups for path in paths)


def _rows_text(path: str) -> str:
    rows = _count((path,), 0)
    return "not counted" if rows is None else f"{rows:,} rows"


def _count(paths: tuple[str, ...], limit: int) -> int | None:
    """Rows of the files; None for Hub data sets and files that are too large to read just for this."""
    from rlkit.data.files import count_rows

    for path in paths:
        file = Path(path).expanduser()
        if not file.is_file() or (file.suffix != ".parquet" and file.stat().st_size > COUNT_LIMIT_BYTES):
            return None
    return count_rows(paths, limit=limit)
