"""`rlkit train ppo`: a model, prompts and a reward to a better model."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from rlkit.algos.objective import ValueObjective
from rlkit.cluster.weight_sync import DirectWeightSync
from rlkit.config.runs import PPOConfig
from rlkit.data.order import EpochOrder
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
from rlkit.pipelines.batch_limits import check_context, check_enough_prompts
from rlkit.pipelines.objectives import build_correction, build_policy_objective
from rlkit.pipelines.run_session import run_session, set_environment_guards
from rlkit.pipelines.starting_point import already_finished, starting_point
from rlkit.plugin import PluginKind
from rlkit.plugin.loader import LoadedPlugin, build_plugin, load_plugin
from rlkit.protocols import ActorBackend, Critic, PolicyActor, ReferenceModel, RolloutEngine
from rlkit.rewards.scorer import Scorer, build_scorer
from rlkit.tracking.checkpoints import CheckpointStore
from rlkit.tracking.run_folder import RunFolder
from rlkit.trainers.experience import AdvantageSettings
from rlkit.trainers.ppo import PPOParts, PPOSettings, PPOTrainer
from rlkit.trainers.ppo_state import PPOState, PromptStream
from rlkit.trainers.run_events import RunEvents
from rlkit.trainers.validation import Validator
from rlkit.types import PromptBatch, SamplingParams

if TYPE_CHECKING:
    from rlkit.config.load import Resolved


def run_ppo(resolved: Resolved) -> Path:
    """Run to the end and return the folder of the finished model."""
    config = resolved.config
    assert isinstance(config, PPOConfig)
    set_environment_guards()
    plugins = [
        load_plugin(PluginKind.ACTOR_BACKEND, config.actor.backend),
        load_plugin(PluginKind.ROLLOUT_ENGINE, config.rollout.engine),
    ]
    scorer = build_scorer(config.reward)
    device = prepare_process(config.run)
    located = locate(config.model)
    check_context(
        config.data.max_prompt_tokens,
        config.rollout.max_response_tokens,
        located.context_length,
        keys=("data.max_prompt_tokens", "rollout.max_response_tokens"),
    )
    train = load_prompt_batch(config.data, config.data.train, located, name="data")
    check_enough_prompts(config.rollout.prompts_per_step, len(train))
    validation = None
    if config.data.validation:
        validation = load_prompt_batch(config.data, config.data.validation, located, name="data")
    order = EpochOrder(len(train), seed=config.run.seed, shuffle=config.data.shuffle)

    folder = RunFolder.open("ppo", config.run.output, config.run.name_or("ppo"), resume=config.run.resume)
    store = CheckpointStore(folder.checkpoints, config.trainer.keep_checkpoints)
    start = starting_point(folder, store, config)
    if already_finished(folder, start, config.trainer.steps):
        return folder.model

    roles = build_roles(config, located, device)
    engine = build_engine(config.rollout, config.model, config.run, located, device, name="rollout")
    state = PPOState(kl_coefficient=config.algorithm.kl_in_reward)
    if start.checkpoint is not None:
        restore(start.checkpoint, roles, state, order)
    parts = assemble(
        config, located, roles, engine, scorer, PromptStream(train, order, config.rollout.prompts_per_step), validation
    )

    def fill_checkpoint(target: Path) -> None:
        save(target, roles, state, order)
        (target / "model").mkdir()
        fill_model(located, roles.actor.export_weights(), target / "model")

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
            PPOTrainer(loop_settings(config), parts, state, events).fit(session.stop)
            write_model(located, roles.actor.export_weights(), folder.model)
    finally:
        engine.close()
        scorer.close()
    return folder.model


@dataclass(frozen=True)
class Roles:
    """The models of the run; None means that nothing in the run needs it."""

    actor: PolicyActor
    critic: Critic | None
    reference: ReferenceModel | None


def build_roles(config: PPOConfig, located: LocatedModel, device: str) -> Roles:
    """Exactly the models that the algorithm asks for."""
    backend: ActorBackend = build_plugin(
        PluginKind.ACTOR_BACKEND, config.actor.backend, config.actor.options, where="actor.options"
    )
    steps = config.trainer.steps * config.algorithm.epochs * config.mini_batches
    actor_role = model_role(config.model, located, config.run, device, config.actor, total_steps=steps)
    critic: Critic | None = None
    reference: ReferenceModel | None = None
    if config.uses_critic:
        path = config.critic.path
        critic = backend.build_critic(
            model_role(config.model, located, config.run, device, config.critic, path=path, total_steps=steps)
        )
    if config.uses_reference:
        path = config.reference.path
        reference = backend.build_reference(
            model_role(config.model, located, config.run, device, config.actor, path=path, total_steps=None)
        )
    return Roles(backend.build_actor(actor_role), critic, reference)


def assemble(
    config: PPOConfig,
    located: LocatedModel,
    roles: Roles,
    engine: RolloutEngine,
    scorer: Scorer,
    prompts: PromptStream,
    validation: PromptBatch | None,
) -> PPOParts:
    """The parts of the loop, from the config sections that each is about."""
    algorithm, rollout = config.algorithm, config.rollout
    return PPOParts(
        actor=roles.actor,
        critic=roles.critic,
        reference=roles.reference,
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
        policy_objective=build_policy_objective(algorithm, horizon=rollout.max_response_tokens),
        value_objective=ValueObjective(config.critic.value_clip),
        advantages=AdvantageSettings(
            algorithm.advantage,
            algorithm.gamma,
            algorithm.lam,
            algorithm.kl_estimator,
            {function.label: weight for function, weight in zip(scorer.functions, scorer.weights, strict=True)},
        ),
        greedy_baseline=config.uses_greedy_baseline,
        correction=build_correction(config.rollout_correction),
        validator=None if validation is None else build_validator(config, located, scorer, validation),
        # The engine and the actor hold a copy of the weights each; what they can share on one device is the KV cache's room.
        handover=("kv_cache",),
    )


def build_validator(config: PPOConfig, located: LocatedModel, scorer: Scorer, prompts: PromptBatch) -> Validator:
    section = config.validation
    sampling = SamplingParams(
        max_tokens=section.max_response_tokens or config.rollout.max_response_tokens,
        temperature=section.temperature,
        top_p=section.top_p,
        samples=section.samples_per_prompt,
        stop=config.rollout.stop,
        seed=config.run.seed,
    )
    return Validator(prompts, sampling, located.tokenizer, scorer)


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
        sampling_rounds=config.algorithm.sampling_rounds,
        target_kl=config.algorithm.target_kl,
        kl_target=config.algorithm.kl_target,
        kl_horizon=config.algorithm.kl_horizon,
    )


def reward_plugins(config: PPOConfig) -> list[LoadedPlugin]:
    return [load_plugin(PluginKind.REWARD_FUNCTION, name) for name in config.reward.functions]


def save(folder: Path, roles: Roles, state: PPOState, order: EpochOrder) -> None:
    """Everything that the next step depends on, besides the config."""
    for name, model in (("actor", roles.actor), ("critic", roles.critic)):
        if model is not None:
            target = folder / "state" / name
            target.mkdir(parents=True)
            model.save(target)
    content = {"state": state.as_json(), "order": order.state()}
    (folder / "state" / "trainer.json").write_text(json.dumps(content))


def restore(checkpoint: Path, roles: Roles, state: PPOState, order: EpochOrder) -> None:
    """Undo `save`."""
    content = json.loads((checkpoint / "state" / "trainer.json").read_text())
    roles.actor.load(checkpoint / "state" / "actor")
    if roles.critic is not None:
        roles.critic.load(checkpoint / "state" / "critic")
    state.restore(content["state"])
    order.restore(content["order"])
