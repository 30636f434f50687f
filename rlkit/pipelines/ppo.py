"""`rlkit train ppo`: a model, prompts and a reward to a better model."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from rlkit.algos.advantages.scaling import AdvantageScaling
from rlkit.algos.objective import ValueObjective
from rlkit.cluster.environment import set_environment_guards
from rlkit.cluster.replicated_engine import ReplicatedEngine
from rlkit.config.runs import PPOConfig
from rlkit.data.order import EpochOrder
from rlkit.data.rendering import Tools
from rlkit.pipelines.adapters import write_adapter
from rlkit.pipelines.algorithms import build_estimator, check_algorithm, needs_of
from rlkit.pipelines.assembly import (
    LocatedModel,
    build_engine,
    load_prompt_batch,
    locate,
    model_role,
    optimizer_settings,
    write_model,
)
from rlkit.pipelines.batch_limits import check_enough_prompts, check_ppo_context
from rlkit.pipelines.best_model import export_best, take_up_record, tell_best, validation_subject
from rlkit.pipelines.checkpoint_content import CheckpointContent, go_on_from
from rlkit.pipelines.conversations import build_collector, build_partners
from rlkit.pipelines.model_export import ModelExport
from rlkit.pipelines.moving_reference import build_reference_course
from rlkit.pipelines.objectives import build_correction, build_policy_objective, build_reward_shaping
from rlkit.pipelines.replica_settings import check_replicas, rollout_replicas
from rlkit.pipelines.residence import build_residence, send_away
from rlkit.pipelines.restarts import run_with_restarts
from rlkit.pipelines.run_session import run_session
from rlkit.pipelines.sampling import sampling_of, validation_sampling
from rlkit.pipelines.starting_point import already_finished, starting_point
from rlkit.pipelines.training_place import TrainingPlace, prepare_driver
from rlkit.pipelines.work_meter import build_ppo_meter
from rlkit.plugin import PluginKind
from rlkit.plugin.loader import LoadedPlugin, load_plugin
from rlkit.protocols import (
    ActorBackend,
    Critic,
    MovingReference,
    PolicyActor,
    ReferenceModel,
    RolloutEngine,
    WeightSync,
)
from rlkit.rewards.resolve import short_labels
from rlkit.rewards.scorer import ENVIRONMENT_PART, Scorer, build_scorer
from rlkit.rollout.collector import Collector
from rlkit.tracking.checkpoint_writer import CheckpointWriter
from rlkit.tracking.checkpoints import CheckpointStore
from rlkit.tracking.run_folder import RunFolder
from rlkit.tracking.sole_process import RunLock
from rlkit.trainers.agreement import AgreementWatch
from rlkit.trainers.experience import AdvantageSettings
from rlkit.trainers.moving_reference import ReferenceCourse
from rlkit.trainers.ppo import PPOParts, PPOSettings, PPOTrainer
from rlkit.trainers.ppo_state import PPOState, PromptStream
from rlkit.trainers.run_events import RunEvents
from rlkit.trainers.shared_trunk import SharedTrunk
from rlkit.trainers.validation import Validator
from rlkit.types import PromptBatch

if TYPE_CHECKING:
    from rlkit.config.load import Resolved


def run_ppo(resolved: Resolved) -> Path:
    """Run to the end and return the folder of the finished model."""
    set_environment_guards()
    return run_with_restarts(resolved, _run_once)


def _run_once(resolved: Resolved, lock: RunLock) -> Path:
    config = resolved.config
    assert isinstance(config, PPOConfig)
    check_algorithm(config)
    device = prepare_driver(config)
    with TrainingPlace(config, device=device) as place, ExitStack() as opened:
        return _train(resolved, config, place, device, opened, lock)


def _train(
    resolved: Resolved, config: PPOConfig, place: TrainingPlace, device: str, opened: ExitStack, lock: RunLock
) -> Path:
    """What has to be closed, however this ends, is in `opened`."""
    plugins = [
        load_plugin(PluginKind.ACTOR_BACKEND, config.actor.backend),
        load_plugin(PluginKind.ROLLOUT_ENGINE, config.rollout.engine),
        load_plugin(PluginKind.ADVANTAGE_ESTIMATOR, config.algorithm.advantage),
        load_plugin(PluginKind.POLICY_LOSS, config.algorithm.policy_loss),
    ]
    scorer = build_scorer(config.reward, seed=config.run.seed, has_environment=bool(config.rollout.environment))
    opened.callback(scorer.close)
    partners = build_partners(config.rollout)
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
    lock.take(folder.path)
    store = CheckpointStore(folder.checkpoints, config.trainer.keep_checkpoints, first=(folder.metrics,))
    start = starting_point(folder, store, config, must_resume=config.run.resume == "must")
    if already_finished(folder, start, config.trainer.steps):
        return folder.model

    roles = build_roles(config, located, place.backend(), device)
    engine = build_rollout_engine(config, located, place)
    opened.callback(engine.close)
    state = PPOState(kl_coefficient=config.algorithm.kl_in_reward)
    content = CheckpointContent(roles.with_state(), state, order, roles.actor, ModelExport(located), config.actor.lora)
    if start.checkpoint is not None:
        content.restore(start.checkpoint)
    validator: Validator | None = None
    if validation is not None:
        subject, kept = validation_subject(config, validation), config.trainer.keep_best
        take_up_record(state.validation, subject, store, step=state.step, best_is_kept=kept)
        validator = build_validator(config, located, scorer, validation, folder, collector)
    prompts = PromptStream(train, order, config.rollout.prompts_per_step)
    parts = assemble(config, located, roles, engine, scorer, prompts, validator, place.weight_sync())
    parts = replace(parts, collector=collector)

    with run_session(
        "ppo",
        resolved,
        folder,
        total_steps=config.trainer.steps,
        first_step=state.step,
        plugins=[*plugins, located.plugin, *reward_plugins(config)],
    ) as session:
        rollouts_folder = folder.rollouts if config.trainer.save_rollouts else None
        events = RunEvents(
            session.info,
            session.hooks,
            CheckpointWriter(store, content.stage, in_background=config.trainer.background_checkpoints),
            rollouts_folder,
            stop_on_checkpoint_error=config.trainer.on_checkpoint_error == "stop",
        )
        parts = replace(parts, meter=build_ppo_meter(config, located.folder, place.peak()))
        go_on_from(start, content, events)
        with events.settling_checkpoints():
            PPOTrainer(loop_settings(config), parts, state, events).fit(session.stop)
        tell_best(state.validation, folder)
        if config.trainer.export == "last" or not export_best(state.validation, store, folder.model):
            write_model(located, roles.actor.export_weights(), folder.model)
            write_adapter(roles.actor, config.actor.lora, folder.adapter)
        events.check_saved()
    return folder.model


def build_rollout_engine(config: PPOConfig, located: LocatedModel, place: TrainingPlace) -> RolloutEngine:
    """Where the actor is, or as replicas, as `rollout.placement` says."""
    replicas = rollout_replicas(config.rollout)
    if replicas is None and place.on_ray:
        return place.hybrid_engine(located)
    if replicas is None:
        return build_engine(
            config.rollout, config.model, config.run, located, place.device,
            name="rollout", lora_rank=config.actor.lora.rank,
        )  # fmt: skip
    check_replicas(replicas, config.run.device)
    from rlkit.pipelines.replicas import build_replicated_engine

    return build_replicated_engine(
        replicas, config.cluster, config.model, config.run,
        folder=located.folder, family=located.plugin.name, device=place.device, lora_rank=config.actor.lora.rank,
        workers=place.workers(),
    )  # fmt: skip


def load_data(config: PPOConfig, located: LocatedModel, tools: Tools = ()) -> tuple[PromptBatch, PromptBatch | None]:
    """Training and validation prompts as token ids; the chat template shows them `tools`."""
    text_only = f"training with actor backend {config.actor.backend}"
    train = load_prompt_batch(config.data, config.data.train, located, name="data", tools=tools, text_only=text_only)
    check_enough_prompts(config.rollout.prompts_per_step, len(train))
    if not config.data.validation:
        return train, None
    return train, load_prompt_batch(
        config.data, config.data.validation, located, name="data", tools=tools, text_only=text_only
    )


@dataclass(frozen=True)
class Roles:
    """The models of the run; None means that nothing in the run needs it."""

    actor: PolicyActor
    critic: Critic | None
    reference: ReferenceModel | None
    reference_course: ReferenceCourse | None = None
    base_is_reference: bool = False  # the reference has no parameters of its own: they are the actor's

    def with_state(self) -> dict[str, PolicyActor | Critic | MovingReference]:
        """Those that change during the run, by the names that they have in a checkpoint."""
        models: dict[str, PolicyActor | Critic | MovingReference] = {"actor": self.actor}
        if self.critic is not None and not isinstance(self.critic, SharedTrunk):
            models["critic"] = self.critic
        if self.reference_course is not None:
            models["reference"] = self.reference_course.reference
        return models


def build_roles(config: PPOConfig, located: LocatedModel, backend: ActorBackend, device: str) -> Roles:
    """Exactly the models that the algorithm asks for."""
    in_one_iteration = config.algorithm.epochs * config.mini_batches
    steps = config.trainer.steps * in_one_iteration
    # While the critic warms up the actor takes no steps: its schedule ends with the run only if it does not count them.
    warmup = config.critic.warmup_iterations * in_one_iteration if needs_of(config).critic else 0
    actor_role = model_role(config.model, located, config.run, device, config.actor, total_steps=steps - warmup)
    actor: PolicyActor
    critic: Critic | None = None
    if config.critic.shared_trunk:
        section = config.critic
        # The head takes its steps in warm-up too, on what is otherwise the actor's optimizer.
        head = replace(optimizer_settings(config.actor, steps), lr=section.lr)
        trunk = backend.build_actor_critic(actor_role, head=head)
        actor = critic = SharedTrunk(trunk, ValueObjective(section.value_clip), section.loss_weight)
        send_away(config, "actor", actor)
    else:
        actor = backend.build_actor(actor_role)
        send_away(config, "actor", actor)
        if needs_of(config).critic:
            path = config.critic.path
            critic = backend.build_critic(
                model_role(config.model, located, config.run, device, config.critic, path=path, total_steps=steps)
            )
            send_away(config, "critic", critic)
    if not config.uses_reference:
        return Roles(actor, critic, None)
    path = config.reference.path
    reference_role = model_role(config.model, located, config.run, device, config.actor, path=path, total_steps=None)
    if config.reference.moves:
        course = build_reference_course(config, backend, reference_role, located.folder)
        send_away(config, "reference", course.reference)
        return Roles(actor, critic, course.reference, course)
    base = None if path else actor.base_policy()
    if base is not None:
        return Roles(actor, critic, base, base_is_reference=True)
    reference = backend.build_reference(reference_role)
    send_away(config, "reference", reference)
    return Roles(actor, critic, reference)


def assemble(
    config: PPOConfig,
    located: LocatedModel,
    roles: Roles,
    engine: RolloutEngine,
    scorer: Scorer,
    prompts: PromptStream,
    validator: Validator | None,
    weight_sync: WeightSync,
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
        weight_sync=weight_sync,
        scorer=scorer,
        tokenizer=located.tokenizer,
        prompts=prompts,
        sampling=sampling_of(rollout),
        policy_objective=build_policy_objective(algorithm, horizon=rollout.max_response_tokens, correction=correction),
        value_objective=ValueObjective(config.critic.value_clip),
        advantages=AdvantageSettings(
            build_estimator(algorithm),
            algorithm.kl_estimator,
            part_weights(config),
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
        residence=build_residence(config, roles),
        engine_metrics=engine.metrics if isinstance(engine, ReplicatedEngine) else dict,
    )


def part_weights(config: PPOConfig) -> dict[str, float]:
    """The weight of each part that the score is the sum of."""
    labels = short_labels(config.reward.functions)
    weights = dict(zip(labels, config.reward.weights or (1.0,) * len(labels), strict=True))
    return {**weights, ENVIRONMENT_PART: 1.0} if config.rollout.environment else weights


def build_validator(
    config: PPOConfig,
    located: LocatedModel,
    scorer: Scorer,
    prompts: PromptBatch,
    folder: RunFolder,
    collector: Collector,
) -> Validator:
    answers = folder.validation if config.trainer.save_rollouts else None
    return Validator(prompts, validation_sampling(config), located.tokenizer, scorer, answers, collector)


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
