"""Proximal policy optimisation, synchronous: answer, judge, learn, hand over the weights, again.

Not here: how the parts are built (pipelines), the maths (algos), who listens (hooks).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace

import torch

from rlkit.algos.adaptive_kl import adapt_coefficient
from rlkit.algos.objective import PolicyObjective, ValueObjective
from rlkit.protocols import Critic, PolicyActor, ReferenceModel, RolloutEngine, Tokenizer, WeightSync
from rlkit.protocols.rollout_engine import EnginePart
from rlkit.rewards.scoring import ScoresSamples, decode_responses, samples_of
from rlkit.rollout.collector import Collector, asked_prompts, collect_rollouts, step_seed
from rlkit.trainers.agreement import AgreementWatch
from rlkit.trainers.average import Average
from rlkit.trainers.clock import StageClock
from rlkit.trainers.conversation_metrics import conversation_metrics
from rlkit.trainers.correction import RolloutCorrection
from rlkit.trainers.experience import AdvantageSettings, ModelAnswers, ask_models, build_experience
from rlkit.trainers.judged import Answered, BeingJudged, Judged, Refill
from rlkit.trainers.moving_reference import ReferenceCourse
from rlkit.trainers.performance import WorkMeter
from rlkit.trainers.ppo_state import PPOState, PromptStream
from rlkit.trainers.residence import Residence
from rlkit.trainers.reward_metrics import group_metrics, judging_metrics, response_metrics, reward_metrics
from rlkit.trainers.reward_shaping import RewardShaping
from rlkit.trainers.run_events import RunEvents
from rlkit.trainers.shared_trunk import SharedTrunk
from rlkit.trainers.stop_signal import StopSignal
from rlkit.trainers.validation import Validator
from rlkit.types import Experience, PromptBatch, Rollouts, SamplingParams


@dataclass(frozen=True)
class PPOSettings:
    """The numbers of the loop; see the config sections for what each means."""

    steps: int
    seed: int
    epochs: int
    mini_batch_samples: int
    critic_warmup_iterations: int
    validate_every: int
    validate_first: bool
    checkpoint_every: int
    keep_best: bool = True
    sampling_rounds: int = 1  # more than one: dynamic sampling
    target_kl: float = 0.0  # 0: every mini-batch of every epoch is used
    kl_target: float = 0.0  # of the KL penalty in the reward, nats an answer; 0 keeps its coefficient
    kl_horizon: float = 10_000.0  # answers over which the coefficient follows the target


@dataclass(frozen=True)
class PPOParts:
    """Everything the loop works with, assembled."""

    actor: PolicyActor
    engine: RolloutEngine
    weight_sync: WeightSync
    scorer: ScoresSamples
    tokenizer: Tokenizer
    prompts: PromptStream
    sampling: SamplingParams
    policy_objective: PolicyObjective
    value_objective: ValueObjective
    advantages: AdvantageSettings
    collector: Collector = collect_rollouts
    greedy_baseline: bool = False  # answer each prompt greedily too, for estimators that compare with that
    reward_shaping: RewardShaping = field(default_factory=RewardShaping)
    correction: RolloutCorrection = field(default_factory=RolloutCorrection)
    agreement: AgreementWatch = field(default_factory=AgreementWatch)
    critic: Critic | None = None
    reference: ReferenceModel | None = None
    reference_course: ReferenceCourse | None = None  # None: the reference stays as it is
    validator: Validator | None = None
    meter: WorkMeter = field(default_factory=WorkMeter)
    handover: tuple[EnginePart, ...] = ()  # what the engine gives up while the actor trains
    residence: Residence = field(default_factory=Residence)  # by default every model stays on its device
    engine_metrics: Callable[[], Mapping[str, float]] = dict  # what the engine says of itself, for every step


class PPOTrainer:
    """Runs the loop; `state` is all that a checkpoint must hold besides the models."""

    def __init__(self, settings: PPOSettings, parts: PPOParts, state: PPOState, events: RunEvents) -> None:
        self.settings = settings
        self.parts = parts
        self.state = state
        self.events = events

    def fit(self, stop: StopSignal) -> None:
        """Train until the last step, or until `stop` is requested; either way the last state is saved."""
        self.hand_over_weights()
        self.validate_before_training()
        while self.state.step < self.settings.steps and not stop.requested:
            clock = StageClock()
            answered, metrics = self.collect(clock)
            answered_greedily = self.collect_greedy(answered, clock)
            self.hand_memory_to_the_actor()
            said = self.ask_models(answered.rollouts, clock)
            judged, greedy = self.await_verdicts(answered, answered_greedily, clock)
            experience, measured = self.prepare(judged, greedy, said, clock)
            metrics |= measured
            metrics |= self.update_critic(experience, clock)
            metrics |= self.update_actor(experience, clock)
            metrics |= self.update_reference(clock)
            self.adapt_kl_coefficient(metrics, len(experience))
            self.hand_over_weights(clock)
            self.state.step += 1
            self.events.rollouts_ready(self.state.step, experience, judged, greedy)
            self.events.step_finished(self.state.step, self.summarise(judged, metrics, clock))
            self.validate_when_due()
            self.checkpoint_when_due()
        self.finish()

    def collect(self, clock: StageClock) -> tuple[Answered, dict[str, float]]:
        """The next prompts, answered and being judged; under dynamic sampling until every prompt has something to teach."""
        first = self.answer(self.parts.prompts.next_batch(), 0, clock)
        if self.settings.sampling_rounds == 1:
            return first, {}
        refill = Refill(wanted=len(self.judged(first, clock).groups()), parts=self.parts.advantages.compared_parts)
        refill.add(self.judged(first, clock))
        while refill.missing and refill.rounds < self.settings.sampling_rounds:
            more = self.answer(self.parts.prompts.next_batch(refill.missing), refill.rounds, clock)
            refill.add(self.judged(more, clock))
        return refill.result(), refill.metrics()

    def answer(self, prompts: PromptBatch, attempt: int, clock: StageClock) -> BeingJudged:
        """`prompts` answered, and their judging begun; each attempt of a step samples by a seed of its own."""
        seed = step_seed(self.settings.seed, self.state.step)
        with clock.stage("rollout"):
            sampling = self.parts.sampling.with_seed(step_seed(seed, attempt) if attempt else seed)
            rollouts = self.parts.collector(self.parts.engine, prompts, sampling)
        self.parts.meter.note_rollout(clock, rollouts)
        return self.begin_judging(rollouts, clock)

    def collect_greedy(self, answered: Answered, clock: StageClock) -> BeingJudged | None:
        """Each prompt's greedy answer, when the advantages are measured against that."""
        if not self.parts.greedy_baseline:
            return None
        with clock.stage("rollout"):
            sampling = replace(self.parts.sampling, temperature=0.0, samples=1)
            rollouts = self.parts.collector(self.parts.engine, asked_prompts(answered.rollouts), sampling)
        self.parts.meter.note_rollout(clock, rollouts)
        return self.begin_judging(rollouts, clock)

    def begin_judging(self, rollouts: Rollouts, clock: StageClock) -> BeingJudged:
        """The answers as text, handed to those who judge; the models are asked meanwhile."""
        with clock.stage("reward"):
            responses = decode_responses(rollouts, self.parts.tokenizer)
            verdicts = self.parts.scorer.begin(samples_of(rollouts, responses))
        self.parts.meter.note_reading(clock, "reward", rollouts)
        return BeingJudged(rollouts, tuple(responses), verdicts)

    def await_verdicts(
        self, answered: Answered, greedy: Answered | None, clock: StageClock
    ) -> tuple[Judged, Judged | None]:
        """With the verdicts on both, as soon as they are there."""
        return self.judged(answered, clock), None if greedy is None else self.judged(greedy, clock)

    def judged(self, answered: Answered, clock: StageClock) -> Judged:
        with clock.stage("reward"):
            return answered.judged()

    def hand_memory_to_the_actor(self) -> None:
        self.parts.engine.release(self.parts.handover)

    def ask_models(self, rollouts: Rollouts, clock: StageClock) -> ModelAnswers:
        """Log-probs and values of what was answered, before anything is learned from it."""
        parts = self.parts
        with clock.stage("log_probs"):
            said = ask_models(
                rollouts,
                parts.actor,
                parts.reference,
                parts.critic,
                temperature=parts.sampling.temperature,
                bypass=parts.correction.bypass,
                probability_squares=parts.advantages.probability_squares,
                residence=parts.residence,
            )
        parts.meter.note_log_probs(clock, rollouts, asks_actor=not parts.correction.bypass)
        return said

    def prepare(
        self, judged: Judged, greedy: Judged | None, said: ModelAnswers, clock: StageClock
    ) -> tuple[Experience, dict[str, float]]:
        """Rewards and advantages: all that the update needs."""
        parts, rollouts = self.parts, judged.rollouts
        parts.meter.note_reading(clock, "advantages", rollouts)
        with clock.stage("advantages"):
            shaped = parts.reward_shaping(judged, greedy, self.state.reward_moments)
            self.state.reward_moments = shaped.moments
            experience, metrics = build_experience(
                rollouts,
                shaped.rewards,
                said,
                parts.advantages,
                parts.correction,
                kl_coefficient=self.state.kl_coefficient,
                greedy_rewards=shaped.greedy_rewards,
            )
            parts.agreement.look(metrics, answered_by=rollouts.policy_version, trained=self.state.policy_version)
            return experience, shaped.metrics | metrics

    def update_critic(self, experience: Experience, clock: StageClock) -> dict[str, float]:
        """One optimizer step for each mini-batch of each epoch; nothing without a critic that learns apart."""
        average = Average()
        if self.parts.critic is not None and self.critic_learns_apart():
            with clock.stage("update_critic"):
                self.parts.residence.bring("critic")
                for batch in self.mini_batches(experience):
                    metrics = self.parts.critic.update_values(batch, self.parts.value_objective)
                    average.add(metrics, tokens=batch.num_loss_tokens)
                    self.parts.meter.note_update(clock, "critic", batch.rollouts)
                    self.stop_when_lost(metrics, batch)
        return average.result()

    def update_actor(self, experience: Experience, clock: StageClock) -> dict[str, float]:
        """One optimizer step for each mini-batch of each epoch; nothing while only the critic warms up."""
        average = Average()
        if self.only_the_critic_learns():
            return {}
        with clock.stage("update_actor"):
            self.parts.residence.bring("actor")
            for batch in self.mini_batches(experience):
                metrics = self.parts.actor.update_policy(
                    batch, self.parts.policy_objective, temperature=self.parts.sampling.temperature
                )
                average.add(metrics, tokens=batch.num_loss_tokens)
                self.parts.meter.note_update(clock, "actor", batch.rollouts)
                self.state.policy_version += 1
                self.stop_when_lost(metrics, batch)
                if self.has_gone_far_enough(metrics):
                    break
        return average.result()

    def only_the_critic_learns(self) -> bool:
        return self.parts.critic is not None and self.state.step < self.settings.critic_warmup_iterations

    def critic_learns_apart(self) -> bool:
        """A head on the actor's trunk does so only in warm-up: later each policy update teaches it too."""
        return not isinstance(self.parts.critic, SharedTrunk) or self.only_the_critic_learns()

    def update_reference(self, clock: StageClock) -> dict[str, float]:
        """A reference that follows the actor does its step; nothing with a frozen one."""
        course, iterations = self.parts.reference_course, self.state.step + 1
        if course is None:
            return {}
        with clock.stage("update_reference"):
            if course.is_due(iterations):
                self.parts.residence.bring("actor", "reference")
            return course.follow(self.parts.actor, iterations)

    def has_gone_far_enough(self, metrics: Mapping[str, float]) -> bool:
        """Whether the policy has left the one that answered by more than `target_kl`, so that its answers say little more."""
        return 0 < self.settings.target_kl < metrics["actor/kl_to_old"]

    def adapt_kl_coefficient(self, metrics: Mapping[str, float], answers: int) -> None:
        """Follow the KL target, if there is one."""
        settings, state = self.settings, self.state
        if settings.kl_target > 0 and state.kl_coefficient > 0:
            kl = metrics["reward/kl_penalty"] / state.kl_coefficient
            state.kl_coefficient = adapt_coefficient(
                state.kl_coefficient, kl, target=settings.kl_target, horizon=settings.kl_horizon, answers=answers
            )

    def mini_batches(self, experience: Experience) -> Iterator[Experience]:
        """All epochs' mini-batches, each epoch in an order of its own that depends on seed and step only.

        One at a time: together they are as many copies of the experience as there are epochs.
        """
        size = self.settings.mini_batch_samples
        for epoch in range(self.settings.epochs):
            generator = torch.Generator().manual_seed(step_seed(self.settings.seed + epoch, self.state.step))
            order: list[int] = torch.randperm(len(experience), generator=generator).tolist()
            for start in range(0, len(order), size):
                yield experience.select(order[start : start + size])

    def hand_over_weights(self, clock: StageClock | None = None) -> None:
        """The engine answers with the actor's present weights from here on."""
        with (clock or StageClock()).stage("weight_sync"):
            if self.parts.residence.moves_models:
                self.push_weights()
                self.hand_memory_to_the_engine()
            else:
                self.hand_memory_to_the_engine()
                self.push_weights()

    def push_weights(self) -> None:
        self.parts.residence.bring("actor")
        self.parts.weight_sync.push(self.parts.actor, self.parts.engine, self.state.policy_version)

    def hand_memory_to_the_engine(self) -> None:
        self.parts.residence.bring()
        self.parts.engine.resume(self.parts.handover)

    def summarise(self, judged: Judged, metrics: dict[str, float], clock: StageClock) -> dict[str, float]:
        """All metrics of the step."""
        return {
            **reward_metrics(judged.rewards),
            **group_metrics(judged),
            **judging_metrics(judged.reports),
            **response_metrics(judged.rollouts, clock.stages()["rollout"]),
            **self.parts.engine_metrics(),
            **conversation_metrics(judged.rollouts),
            **metrics,
            **clock.metrics(),
            **self.parts.meter.metrics(clock, step_tokens=judged.rollouts.num_tokens),
        }

    def validate_before_training(self) -> None:
        if self.settings.validate_first and self.state.step == 0:
            self.validate()

    def validate_when_due(self) -> None:
        every = self.settings.validate_every
        if every and self.state.step % every == 0 and self.state.step < self.settings.steps:
            self.validate()

    def validate(self) -> None:
        """Measure the policy on held-out prompts; the state of the best one so far is saved."""
        if self.parts.validator is not None:
            metrics = self.parts.validator.run(self.parts.engine, self.state.step)
            is_best = self.state.validation.note(self.state.step, metrics)
            self.events.validation_finished(self.state.step, metrics)
            if is_best and self.settings.keep_best:
                self.save_checkpoint()

    def checkpoint_when_due(self) -> None:
        every = self.settings.checkpoint_every
        if every and self.state.step % every == 0 and self.state.step < self.settings.steps:
            self.save_checkpoint()

    def save_checkpoint(self) -> None:
        best = self.state.validation.best_step if self.settings.keep_best else None
        if self.parts.residence.moves_models:  # a backend may need the device for a moment to read a model
            self.hand_memory_to_the_actor()
        self.events.save_checkpoint(self.state.step, spare=() if best is None else (best,))
        if self.parts.residence.moves_models:
            self.hand_memory_to_the_engine()

    def finish(self) -> None:
        """The last validation, when the run is complete, and the last checkpoint."""
        if self.state.step >= self.settings.steps and not self.state.validation.covers(self.state.step):
            self.validate()
        self.save_checkpoint()
        if self.parts.residence.moves_models:  # the model is exported next
            self.hand_memory_to_the_actor()

    def stop_when_lost(self, metrics: Mapping[str, float], batch: Experience) -> None:
        """Raise `TrainingError` after too many optimizer steps in a row with non-finite gradients of one model."""
        self.state.skipped.note(metrics, tokens=batch.num_loss_tokens, step=self.state.step + 1)
