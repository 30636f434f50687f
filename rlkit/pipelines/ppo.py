"""`rlkit train ppo`: a model, prompts and a reward to a better model."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from rlkit.algos.advantages.scaling import AdvantageScaling
from rlkit.algos.objective import ValueObjective
from rlkit.cluster.environment import set_environment_guards
from rlkit.cluster.replicated_engine import ReplicatedEngine
from rlkit.cluster.weight_sync import DirectWeightSync
from rlkit.config.runs import PPOConfig
from rlkit.data.order import EpochOrder
from rlkit.data.rendering import Tools
from rlkit.errors import CheckpointError
from rlkit.pipelines.adapters import write_adapter
from rlkit.pipelines.algorithms import build_estimator, check_algorithm, needs_of
from rlkit.pipelines.assembly import (
    LocatedModel,
    build_engine,
    fill_model,
    load_prompt_batch,
    locate,
    model_role,
    prepare_process,
    write_model,
)
from rlkit.pipelines.batch_limits import check_enough_prompts, check_ppo_context
from rlkit.pipelines.best_model import export_best, take_up_record, tell_best, validation_subject, write_best
from rlkit.pipelines.conversations import build_collector, build_partners
from rlkit.pipelines.moving_reference import build_reference_course
from rlkit.pipelines.objectives import build_correction, build_policy_objective, build_reward_shaping
from rlkit.pipelines.replica_settings import check_replicas, rollout_replicas
from rlkit.pipelines.run_session import run_session
from rlkit.pipelines.starting_point import already_finished, starting_point
from rlkit.pipelines.work_meter import build_ppo_meter
from rlkit.plugin import PluginKind
from rlkit.plugin.loader import LoadedPlugin, build_plugin, load_plugin
from rlkit.protocols import ActorBackend, Critic, MovingReference, PolicyActor, ReferenceModel, RolloutEngine
from rlkit.rewards.scorer import ENVIRONMENT_PART, Scorer, build_scorer
from rlkit.rollout.collector import Collector
from rlkit.tracking.checkpoints import CheckpointStore
from rlkit.tracking.run_folder import RunFolder
from rlkit.trainers.agreement import AgreementWatch
from rlkit.trainers.experience import AdvantageSettings
from rlkit.trainers.moving_reference import ReferenceCourse
from rlkit.trainers.ppo import PPOParts, PPOSettings, PPOTrainer
from rlkit.trainers.ppo_state import PPOState, PromptStream
from rlkit.trainers.run_events import RunEvents
from rlkit.trainers.shared_trunk import SharedTrunk
from rlkit.trainers.validation import Validator
from rlkit.types import PromptBatch, SamplingParams

if TYPE_CHECKING:
    from rlkit.config.load import Resolved


def run_ppo(resolved: Resolved) -> Path:
    """Run to the end and return the folder of the finished model."""
    config = resolved.config
    assert isinstance(config, PPOConfig)
    set_environment_guards()
    check_algorithm(config)
    plugins = [
        load_plugin(PluginKind.ACTOR_BACKEND, config.actor.backend),
        load_plugin(PluginKind.ROLLOUT_ENGINE, config.rollout.engine),
        load_plugin(PluginKind.ADVANTAGE_ESTIMATOR, config.algorithm.advantage),
        load_plugin(PluginKind.POLICY_LOSS, config.algorithm.policy_loss),
    ]
    scorer = build_scorer(config.reward, has_environment=bool(config.rollout.environment))
    partners = build_partners(config.rollout)
    device = prepare_process(config.run)
    located = locate(config.model)
    check_ppo_context(config, located.context_length)
    collector = build_collector(
        config.rollout,
        partners,
        located.tokenizer,
        max_prompt_tokens=config.data.max_prompt_tokens,
        context_length=located.context_length,
    )
    tools = partners.toolbox.schemas if partners.toolbox is not None else ()
    train, validation = load_data(config, located, tools)
    order = EpochOrder(len(train), seed=config.run.seed, shuffle=config.data.shuffle)

    folder = RunFolder.open("ppo", config.run.output, config.run.name_or("ppo"), resume=config.run.resume)
    store = CheckpointStore(folder.checkpoints, config.trainer.keep_checkpoints)
    start = starting_point(folder, store, config)
    if already_finished(folder, start, config.trainer.steps):
        return folder.model

    roles = build_roles(config, located, device)
    engine = build_rollout_engine(config, located, device)
    state = PPOState(kl_coefficient=config.algorithm.kl_in_reward)
    if start.checkpoint is not None:
        restore(start.checkpoint, roles, state, order)
    validator: Validator | None = None
    if validation is not None:
        subject, kept = validation_subject(config, validation), config.trainer.keep_best
        take_up_record(state.validation, subject, store, step=state.step, best_is_kept=kept)
        validator = build_validator(config, located, scorer, validation, folder, collector)
    prompts = PromptStream(train, order, config.rollout.prompts_per_step)
    parts = assemble(config, located, roles, engine, scorer, prompts, validator)
    parts = replace(parts, collector=collector)

    def fill_checkpoint(target: Path) -> None:
        save(target, roles, state, order)
        write_best(target, state.validation, step=state.step)
        (target / "model").mkdir()
        fill_model(located, roles.actor.export_weights(), target / "model")
        write_adapter(roles.actor, config.actor.lora, target / "adapter")

    try:
        with run_session(
            "ppo",
            resolved,
            folder,
            total_steps=config.trainer.steps,
            first_step=state.step,
            plugins=[*plugins, located.plugin, *reward_plugins(config)],
        ) as session:
            rollouts_folder = folder.rollouts if config.trainer.save_rollouts else None
            events = RunEvents(session.info, session.hooks, store, fill_checkpoint, rollouts_folder)
            parts = replace(parts, meter=build_ppo_meter(config, located.folder, device))
            PPOTrainer(loop_settings(config), parts, state, events).fit(session.stop)
            tell_best(state.validation, folder)
            if config.trainer.export == "last" or not export_best(state.validation, store, folder.model):
                write_model(located, roles.actor.export_weights(), folder.model)
                write_adapter(roles.actor, config.actor.lora, folder.adapter)
    finally:
        engine.close()
        scorer.close()
    return folder.model


def build_rollout_engine(config: PPOConfig, located: LocatedModel, device: str) -> RolloutEngine:
    """In this process, or as replicas, as `rollout.placement` says."""
    replicas = rollout_replicas(config.rollout)
    if replicas is None:
        return build_engine(config.rollout, config.model, config.run, located, device, name="rollout")
    check_replicas(replicas, config.run.device)
    from rlkit.pipelines.replicas import build_replicated_engine

    return build_replicated_engine(
        replicas, config.cluster, config.model, config.run,
        folder=located.folder, family=located.plugin.name, device=device,
    )  # fmt: skip


def load_data(config: PPOConfig, located: LocatedModel, tools: Tools = ()) -> tuple[PromptBatch, PromptBatch | None]:
    """Training and validation prompts as token ids; the chat template shows them `tools`."""
    train = load_prompt_batch(config.data, config.data.train, located, name="data", tools=tools)
    check_enough_prompts(config.rollout.prompts_per_step, len(train))
    if not config.data.validation:
        return train, None
    return train, load_prompt_batch(config.data, config.data.validation, located, name="data", tools=tools)


@dataclass(frozen=True)
class Roles:
    """The models of the run; None means that nothing in the run needs it."""

    actor: PolicyActor
    critic: Critic | None
    reference: ReferenceModel | None
    reference_course: ReferenceCourse | None = None

    def with_state(self) -> dict[str, PolicyActor | Critic | MovingReference]:
        """Those that change during the run, by the names that they have in a checkpoint."""
        models: dict[str, PolicyActor | Critic | MovingReference] = {"actor": self.actor}
        if self.critic is not None and not isinstance(self.critic, SharedTrunk):
            models["critic"] = self.critic
        if self.reference_course is not None:
            models["reference"] = self.reference_course.reference
        return models


def build_roles(config: PPOConfig, located: LocatedModel, device: str) -> Roles:
    """Exactly the models that the algorithm asks for."""
    backend: ActorBackend = build_plugin(
        PluginKind.ACTOR_BACKEND, config.actor.backend, config.actor.options, where="actor.options"
    )
    in_one_iteration = config.algorithm.epochs * config.mini_batches
    steps = config.trainer.steps * in_one_iteration
    # While the critic warms up the actor takes no steps: its schedule ends with the run only if it does not count them.
    warmup = config.critic.warmup_iterations * in_one_iteration if needs_of(config).critic else 0
    actor_role = model_role(config.model, located, config.run, device, config.actor, total_steps=steps - warmup)
    actor: PolicyActor
    critic: Critic | None = None
    if config.critic.shared_trunk:
        section = config.critic
        trunk = backend.build_actor_critic(actor_role, head_lr=section.lr)
        actor = critic = SharedTrunk(trunk, ValueObjective(section.value_clip), section.loss_weight)
    else:
        actor = backend.build_actor(actor_role)
        if needs_of(config).critic:
            path = config.critic.path
            critic = backend.build_critic(
                model_role(config.model, located, config.run, device, config.critic, path=path, total_steps=steps)
            )
    if not config.uses_reference:
        return Roles(actor, critic, None)
    path = config.reference.path
    reference_role = model_role(config.model, located, config.run, device, config.actor, path=path, total_steps=None)
    if config.reference.moves:
        course = build_reference_course(config, backend, reference_role, located.folder)
        return Roles(actor, critic, course.reference, course)
    base = None if path else actor.base_policy()
    return Roles(actor, critic, base or backend.build_reference(reference_role))


def assemble(
    config: PPOConfig,
    located: LocatedModel,
    roles: Roles,
    engine: RolloutEngine,
    scorer: Scorer,
    prompts: PromptStream,
    validator: Validator | None,
) -> PPOParts:
    """The parts of the loop, from the config sections that each is about."""
    algorithm, rollout = config.algorithm, config.rollout
    correction = build_correction(config.rollout_correction)
    return PPOParts(
        actor=roles.actor,
        critic=roles.critic,
        reference=roles.reference,
        reference_course=roles.reference_course,
        engine=engine,
        weight_sync=DirectWeightSync(),
        scorer=scorer,
        tokenizer=located.tokenizer,
        prompts=prompts,
        sampling=SamplingParams(
            max_tokens=rollout.max_response_tokens,
            temperature=rollout.temperature,
            top_p=rollout.top_p,
            top_k=rollout.top_k,
            min_p=rollout.min_p,
            samples=rollout.samples_per_prompt,
            stop=rollout.stop,
        ),
        policy_objective=build_policy_objective(algorithm, horizon=rollout.max_response_tokens, correction=correction),
        value_objective=ValueObjective(config.critic.value_clip),
        advantages=AdvantageSettings(
            build_estimator(algorithm),
            algorithm.kl_estimator,
            part_weights(config, scorer),
            compares_parts=needs_of(config).reward_parts,
            probability_squares=needs_of(config).probability_squares,
            scaling=AdvantageScaling(algorithm.normalise_advantages == "batch", algorithm.advantage_clip),
            mask_truncated=algorithm.mask_truncated,
        ),
        greedy_baseline=needs_of(config).greedy_baseline,
        correction=correction,
        agreement=AgreementWatch(config.model.dtype),
        reward_shaping=build_reward_shaping(config.reward, limit=rollout.max_response_tokens),
        validator=validator,
        # The engine and the actor hold a copy of the weights each; what they can share on one device is the KV cache's room.
        handover=() if rollout.placement == "standalone" else ("kv_cache",),
        engine_metrics=engine.metrics if isinstance(engine, ReplicatedEngine) else dict,
    )


def part_weights(config: PPOConfig, scorer: Scorer) -> dict[str, float]:
    """The weight of each part that the score is the sum of."""
    weights = {function.label: weight for function, weight in zip(scorer.functions, scorer.weights, strict=True)}
    return {**weights, ENVIRONMENT_PART: 1.0} if config.rollout.environment else weights


def build_validator(
    config: PPOConfig,
    located: LocatedModel,
    scorer: Scorer,
    prompts: PromptBatch,
    folder: RunFolder,
    collector: Collector,
) -> Validator:
    section = config.validation
    sampling = SamplingParams(
        max_tokens=section.max_response_tokens or config.rollout.max_response_tokens,
        temperature=section.temperature,
        top_p=section.top_p,
        samples=section.samples_per_prompt,
        stop=config.rollout.stop,
        seed=config.run.seed,
    )
    answers = folder.validation if config.trainer.save_rollouts else None
    return Validator(prompts, sampling, located.tokenizer, scorer, answers, collector)


def loop_settings(config: PPOConfig) -> PPOSettings:
    return PPOSettings(
        steps=config.trainer.steps,
        seed=config.run.seed,
        epochs=config.algorithm.epochs,
        mini_batch_samples=config.mini_batch_samples,
        critic_warmup_iterations=config.critic.warmup_iterations,
        validate_every=config.trainer.validate_every,
        validate_first=config.trainer.validate_first,
        checkpoint_every=config.trainer.checkpoint_every,
        keep_best=config.trainer.keep_best,
        sampling_rounds=config.algorithm.sampling_rounds,
        target_kl=config.algorithm.target_kl,
        kl_target=config.algorithm.kl_target,
        kl_horizon=config.algorithm.kl_horizon,
    )


def reward_plugins(config: PPOConfig) -> list[LoadedPlugin]:
    return [load_plugin(PluginKind.REWARD_FUNCTION, name) for name in config.reward.functions]


def save(folder: Path, roles: Roles, state: PPOState, order: EpochOrder) -> None:
    """Everything that the next step depends on, besides the config."""
    for name, model in roles.with_state().items():
        target = folder / "state" / name
        target.mkdir(parents=True)
        model.save(target)
    content = {"state": state.as_json(), "order": order.state()}
    (folder / "state" / "trainer.json").write_text(json.dumps(content))


def restore(checkpoint: Path, roles: Roles, state: PPOState, order: EpochOrder) -> None:
    """Undo `save`."""
    content = json.loads((checkpoint / "state" / "trainer.json").read_text())
    models = roles.with_state()
    for name in models:
        if not (checkpoint / "state" / name).is_dir():
            raise CheckpointError(
                f"checkpoint {checkpoint} has no {name}: the run began without one; go on with the settings that it "
                "began with, or choose another --name"
            )
    for name, model in models.items():
        model.load(checkpoint / "state" / name)
    state.restore(content["state"])
    order.restore(content["order"])
