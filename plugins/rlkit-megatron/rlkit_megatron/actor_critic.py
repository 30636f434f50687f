"""Actor and critic on one network: a value head on the policy's last hidden states."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch
import torch.distributed as dist
from torch import Tensor, nn

from rlkit.algos.aggregation import Denominators
from rlkit.algos.joint_objective import JointObjective
from rlkit.algos.metric_totals import in_area
from rlkit.algos.objective import ObjectiveShare, ValueObjective
from rlkit.algos.packed_objective import policy_share, share_of_packed
from rlkit.models.state_files import BackgroundSave
from rlkit.protocols.actor import LogProbs, ModelRole, OptimizerSettings
from rlkit.types import Experience, Ragged, Rollouts
from rlkit_megatron.actor import MegatronActor, statistics_of
from rlkit_megatron.model import ValueHead
from rlkit_megatron.options import MegatronOptions
from rlkit_megatron.parallel import Parallel
from rlkit_megatron.pipeline import LastHiddenStates
from rlkit_megatron.saving import COUNTERS, MOMENTS_FOLDER, WEIGHTS, State, read_counters, read_whole


class MegatronActorCritic:
    """The actor with a head that every process has whole, and that has an optimizer of its own.

    One backward pass gives the gradients of both. They are clipped apart: errors in the returns, which the head's gradient
    is proportional to, would otherwise shorten the policy's step.
    """

    def __init__(self, role: ModelRole, options: MegatronOptions, *, head: OptimizerSettings) -> None:
        self.actor = MegatronActor(role, options)
        hidden_size = self.actor.modules[0].config.hidden_size
        self.head = HeadInTraining(ValueHead(hidden_size, role.device), head, self.actor.parallel)

    def compute_log_probs(
        self, rollouts: Rollouts, *, temperature: float, probability_squares: bool = False
    ) -> LogProbs:
        return self.actor.compute_log_probs(rollouts, temperature=temperature, probability_squares=probability_squares)

    def compute_values(self, rollouts: Rollouts) -> Ragged:
        (values,) = self.actor.forward_rows(rollouts, lambda hidden: [self._values(hidden)], outputs=1)
        return values

    def compute_log_probs_and_values(
        self, rollouts: Rollouts, *, temperature: float, probability_squares: bool = False
    ) -> tuple[LogProbs, Ragged]:
        """Both, from one forward pass."""
        statistics = statistics_of(self.actor, temperature, probability_squares=probability_squares)

        def compute(hidden: LastHiddenStates) -> Sequence[Tensor]:
            return [self._values(hidden), *statistics(hidden)]

        values, *found = self.actor.forward_rows(rollouts, compute, outputs=4 if probability_squares else 3)
        return LogProbs(*found), values

    def update_jointly(
        self, experience: Experience, objective: JointObjective, *, temperature: float
    ) -> dict[str, float]:
        """One optimizer step of trunk and head; see `rlkit.protocols.actor_critic.ActorCritic`."""
        rollouts = experience.rollouts
        experience = objective.prepare(experience, lambda: self.actor.present_log_probs(rollouts, temperature))

        def share_of(hidden: LastHiddenStates, part: Experience, denominators: Denominators) -> ObjectiveShare:
            log_probs, entropy, _ = self.actor.statistics(hidden, temperature)
            return policy_share(objective, part, denominators, log_probs, entropy, self._values(hidden))

        metrics, empty = self.actor.learn(experience, share_of)
        step, head_step = self.actor.optimizer.step(empty=empty), self.head.step(empty=empty)
        return {**metrics, **in_area("actor", step), **in_area("critic", head_step)}

    def update_head(self, experience: Experience, objective: ValueObjective) -> dict[str, float]:
        """One optimizer step of the head."""

        def share_of(hidden: LastHiddenStates, part: Experience, denominators: Denominators) -> ObjectiveShare:
            return share_of_packed(objective, part, denominators, self._values(hidden))

        metrics, empty = self.actor.learn(experience, share_of, trunk=False)
        return {**metrics, **in_area("critic", self.head.step(empty=empty))}

    def export_weights(self) -> Iterator[tuple[str, Tensor]]:
        yield from self.actor.export_weights()

    def base_policy(self) -> None:
        """None: there are no adapters."""
        return

    def save_adapter(self, folder: Path) -> None:
        """There is none."""
        raise ValueError("the role has no adapter")

    def state(self) -> State:
        return self.actor.state().under("policy").joined(self.head.state().under("head"))

    def save(self, folder: Path) -> None:
        self.state().write(folder, self.actor.parallel.rank)

    def begin_save(self, folder: Path) -> BackgroundSave:
        """See `rlkit.protocols.actor.PolicyActor.begin_save`."""
        return self.state().begin_writing(folder, self.actor.parallel.rank)

    def load(self, folder: Path) -> None:
        self.actor.load(folder / "policy")
        self.head.load(folder / "head")

    def onload(self) -> None:
        """The head is small and stays."""
        self.actor.onload()

    def offload(self) -> None:
        self.actor.offload()

    def _values(self, hidden: LastHiddenStates) -> Tensor:
        values: Tensor = self.head.score(hidden.for_whole_head())
        return values


class HeadInTraining:
    """A value head that is the same on all processes, with AdamW. Its gradients come on the last stages only."""

    def __init__(self, score: ValueHead, settings: OptimizerSettings, parallel: Parallel) -> None:
        self.score, self.settings, self.parallel = score, settings, parallel
        self.steps_done = 0
        self.steps_skipped = 0
        self._adamw = torch.optim.AdamW(
            score.parameters(),
            lr=settings.lr,
            betas=settings.betas,
            eps=settings.eps,
            weight_decay=settings.weight_decay,
            fused=True,
        )

    def step(self, *, empty: bool) -> dict[str, float]:
        """As `rlkit_megatron.optimizer.Optimizer.step`. Collective."""
        weight = self.score.weight
        if weight.grad is None:
            weight.grad = torch.zeros_like(weight)
        if self.parallel.size > 1:
            dist.all_reduce(weight.grad, group=self.parallel.state.get_data_parallel_group())
            self.parallel.from_last_stage(weight.grad)
        rate = self.settings.learning_rate(self.steps_done)
        for group in self._adamw.param_groups:
            group["lr"] = rate
        norm = float(nn.utils.clip_grad_norm_([weight], self.settings.max_grad_norm))
        if math.isfinite(norm) and not empty:
            self._adamw.step()
        else:
            self.steps_skipped += 1
        self.steps_done += 1
        self._adamw.zero_grad(set_to_none=True)
        return {"grad_norm": norm, "lr": rate, "skipped_steps": float(self.steps_skipped)}

    def state(self) -> State:
        """Of which one process writes all."""
        weight, held = self.score.weight.detach(), self._adamw.state.get(self.score.weight, {})
        moments = {f"score.weight.{name}": held[name] for name in ("exp_avg", "exp_avg_sq") if name in held}
        steps = {"score.weight": float(held["step"])} if held else {}
        counters = {"steps_done": self.steps_done, "steps_skipped": self.steps_skipped, "parameter_steps": steps}
        first = self.parallel.rank == 0
        tensors = {WEIGHTS: {"score.weight": weight}, MOMENTS_FOLDER: moments} if first else {}
        return State.of_whole(tensors, {COUNTERS: counters})

    def load(self, folder: Path) -> None:
        """Raises `CheckpointError` for a head of another model."""
        device, weight = self.score.weight.device, self.score.weight
        otherwise = "the saved value head is of another model"
        found = read_whole(folder / WEIGHTS, {"score.weight": tuple(weight.shape)}, otherwise=otherwise)
        with torch.no_grad():
            weight.copy_(found["score.weight"])
        counters = read_counters(folder)
        self._adamw.state.clear()
        if "score.weight" in counters.parameter_steps:
            names = {f"score.weight.{name}": tuple(weight.shape) for name in ("exp_avg", "exp_avg_sq")}
            moments = read_whole(folder / MOMENTS_FOLDER, names, otherwise=otherwise)
            self._adamw.state[weight] = {
                "step": torch.tensor(counters.parameter_steps["score.weight"], dtype=torch.float32, device=device),
                **{name.removeprefix("score.weight."): tensor.to(device) for name, tensor in moments.items()},
            }
        self.steps_done, self.steps_skipped = counters.steps_done, counters.steps_skipped
