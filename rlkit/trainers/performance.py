"""How fast a step was: per token, tokens per second, and the share of the device's peak (MFU).

    MFU = operations that the models need / (seconds * the device's peak)        Chowdhery et al. 2022, appendix B

The operations are those of `rlkit.models.flops`: what a stage needs, not what an implementation happens to do.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from rlkit.cluster.peak_flops import PeakFlops
from rlkit.models.flops import MatmulShape
from rlkit.trainers.clock import StageClock
from rlkit.types import Rollouts, SupervisedBatch

UPDATES = ("update_actor", "update_critic", "update")
"""Stages that change weights, in the words of PPO and of supervised runs."""


@dataclass(frozen=True)
class WorkMeter:
    """Notes on a step's clock what its stages work on. A model whose shape is None costs nothing; without `peak` there is no MFU.

    trunk_is_shared: `critic` is but a head on the policy, whose trunk has to run for it
    """

    policy: MatmulShape | None = None
    reference: MatmulShape | None = None
    critic: MatmulShape | None = None
    peak: PeakFlops | None = None
    trunk_is_shared: bool = False

    def note_rollout(self, clock: StageClock, rollouts: Rollouts) -> None:
        """Generation: response tokens. Every token but an answer's last one goes through the model once."""
        responses = rollouts.response_ids.num_tokens
        lengths = [max(0, length - 1) for length in _row_lengths(rollouts)]
        flops = 0.0 if self.policy is None else self.policy.causal_forward_flops(lengths, predictions=responses)
        clock.note_work("rollout", tokens=responses, flops=flops)

    def note_reading(self, clock: StageClock, stage: str, rollouts: Rollouts) -> None:
        """A stage without a model: response tokens."""
        clock.note_work(stage, tokens=rollouts.response_ids.num_tokens)

    def note_log_probs(self, clock: StageClock, rollouts: Rollouts, *, asks_actor: bool) -> None:
        """One forward pass of each model over prompts and responses; `asks_actor`: the policy is one of them."""
        lengths, predictions = _row_lengths(rollouts), rollouts.response_ids.num_tokens
        models = (self.policy if asks_actor else None, self.reference, self.critic)
        flops = 0.0 if asks_actor else self._shared_trunk_flops(lengths)
        flops += sum(
            model.causal_forward_flops(lengths, predictions=predictions) for model in models if model is not None
        )
        clock.note_work("log_probs", tokens=sum(lengths), flops=flops)

    def note_update(self, clock: StageClock, role: Literal["actor", "critic"], rollouts: Rollouts) -> None:
        """One optimizer step's forward and backward passes over prompts and responses."""
        model = self.policy if role == "actor" else self.critic
        lengths = _row_lengths(rollouts)
        flops = 0.0
        if model is not None:
            flops = model.causal_update_flops(lengths, predictions=rollouts.response_ids.num_tokens)
        if role == "critic":
            flops += self._shared_trunk_flops(lengths)
        clock.note_work(f"update_{role}", tokens=sum(lengths), flops=flops)

    def _shared_trunk_flops(self, lengths: Sequence[int]) -> float:
        """The trunk's forward pass where the values are all that is asked of it."""
        if not self.trunk_is_shared or self.policy is None:
            return 0.0
        return self.policy.causal_forward_flops(lengths, predictions=0)

    def note_supervised_update(self, clock: StageClock, batch: SupervisedBatch) -> None:
        """One optimizer step of supervised fine-tuning over all tokens; predictions are asked of the loss tokens."""
        flops = 0.0
        if self.policy is not None:
            lengths = batch.token_ids.lengths.tolist()
            flops = self.policy.causal_update_flops(lengths, predictions=batch.num_loss_tokens)
        clock.note_work("update", tokens=batch.token_ids.num_tokens, flops=flops)

    def metrics(self, clock: StageClock, *, step_tokens: int) -> dict[str, float]:
        """`time_per_token/*`, `throughput/*` and `perf/*`; `step_tokens` is the size of the step's batch, prompts included."""
        seconds = {**{name: stage.seconds for name, stage in clock.stages().items()}, "step": clock.step_seconds()}
        tokens = {**{name: stage.tokens for name, stage in clock.stages().items()}, "step": step_tokens}
        metrics = {
            f"time_per_token/{name}_ms": 1000 * seconds[name] / tokens[name] for name in seconds if tokens[name] > 0
        }
        metrics["throughput/tokens_per_s"] = _rate(step_tokens, seconds["step"])
        updated = [name for name in UPDATES if tokens.get(name)]
        if updated:
            metrics["throughput/update_tokens_per_s"] = _rate(
                sum(tokens[name] for name in updated), sum(seconds[name] for name in updated)
            )
        return metrics | self._utilisation(clock, seconds["step"])

    def _utilisation(self, clock: StageClock, step_seconds: float) -> dict[str, float]:
        stages = {name: stage for name, stage in clock.stages().items() if stage.flops > 0}
        if self.peak is None or not stages:
            return {}
        peak = self.peak.flops
        shares = {f"perf/mfu_{name}": _rate(stage.flops, stage.seconds) / peak for name, stage in stages.items()}
        return {
            "perf/mfu": _rate(sum(stage.flops for stage in stages.values()), step_seconds) / peak,
            **shares,
            "perf/peak_flops": peak,
            "perf/peak_is_measured": float(self.peak.measured),
        }


def _row_lengths(rollouts: Rollouts) -> Sequence[int]:
    lengths: list[int] = (rollouts.prompt_ids.lengths + rollouts.response_ids.lengths).tolist()
    return lengths


def _rate(amount: float, seconds: float) -> float:
    return amount / max(seconds, 1e-9)
