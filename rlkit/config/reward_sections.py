"""How answers are judged, as sections."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from rlkit.config.base import Section
from rlkit.config.fields import (
    Fraction,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    RewardNames,
    RewardOptions,
)


class RewardSection(Section):
    """How answers are judged."""

    functions: RewardNames = ()
    """Reward functions: plugin names, `file.py:function` or `package.module:attr`. Scores are added by weight. Required."""
    weights: tuple[float, ...] = ()
    """One weight for each function; empty means 1 for each."""
    options: RewardOptions = Field(default_factory=dict)
    """Options by function name: `[reward.options.gsm8k]`."""
    timeout_s: PositiveFloat = 30.0
    """Seconds after which an answer counts as failed; the worker that judges it is killed. A function that judges a batch as a whole has as long for each call."""
    on_error: Literal["stop", "leave_out"] = "stop"
    """What happens when an answer cannot be judged (exception, timeout, not a finite number, a worker that ended): stop the run with the reason, or leave the answer out. A left out answer teaches nothing: it is in no loss, no baseline and no mean, only in `reward/errors`."""
    max_error_fraction: Fraction = 0.1
    """With leave_out: the share of a batch (the answers of a step, or of a validation) that may fail before the run stops all the same."""
    workers: NonNegativeInt = 12
    """Most processes that judge at a time; as many start as there is work for, and many rewards wait rather than compute. 0 judges in the trainer's own process, one answer after the other, where a hanging function can be left behind but not killed, memory has no limit, and nothing runs beside the models."""
    memory_mib: NonNegativeInt = 2048
    """MiB that judging may add to the memory of a worker, and that each process started by it may have; 0 is no limit."""
    concurrency: PositiveInt = 32
    """Most answers that async reward functions judge at a time."""
    retries: NonNegativeInt = 4
    """Further attempts for an answer whose function reports a passing failure (`TransientRewardError`: an overloaded server, a lost connection)."""
    retry_wait_s: PositiveFloat = 1.0
    """Seconds before the first of them; it doubles each time, up to a minute, or is what the server asks for."""
    remembered_verdicts: NonNegativeInt = 20_000
    """Verdicts that are kept, so that the same answer to the same prompt is judged once; 0 judges every one. Functions that judge a whole batch, or say that their verdicts change, are always asked."""

    @model_validator(mode="after")
    def _weights_match(self) -> RewardSection:
        if self.weights and len(self.weights) != len(self.functions):
            raise ValueError(
                f"reward.weights has {len(self.weights)} numbers for {len(self.functions)} functions; "
                "give one for each or leave it empty"
            )
        unknown = sorted(set(self.options) - set(self.functions))
        if unknown:
            raise ValueError(
                f"reward.options names {', '.join(unknown)}, which reward.functions does not; "
                f"functions: {', '.join(self.functions) or '(none)'}"
            )
        return self


class TrainingRewardSection(RewardSection):
    """How answers are judged, and what their scores become before anything is learned from them. Validation, the rollouts file and `reward/mean` have the scores as they are."""

    clip: tuple[float, ...] = ()
    """Lowest and highest score; scores beyond are cut to these. Empty leaves them."""
    normalise: Literal["none", "batch", "running"] = "none"
    """batch: less the mean of the iteration's scores, divided by their spread; running: divided by the spread of all scores so far, which keeps zero in its place. Estimators that divide by a spread themselves (grpo, grpo_passk) or whiten cancel most of it."""
    overlong_buffer_tokens: NonNegativeInt = 0
    """Sampled tokens before rollout.max_response_tokens within which an answer loses up to overlong_penalty of its score, in proportion (DAPO); 0 is off."""
    overlong_penalty: NonNegativeFloat = 0.0
    """What an answer of the full length loses; DAPO takes 1, half the distance between its right and wrong. Needs overlong_buffer_tokens."""

    @property
    def shapes_scores(self) -> bool:
        return bool(self.clip) or self.normalise != "none" or self.overlong_penalty > 0

    @model_validator(mode="after")
    def _shaping_is_sound(self) -> TrainingRewardSection:
        if self.clip and (len(self.clip) != 2 or self.clip[0] >= self.clip[1]):
            raise ValueError(
                f"reward.clip = {list(self.clip)}: give the lowest and the highest score, such as [-1.0, 1.0], or leave it empty"
            )
        if (self.overlong_buffer_tokens > 0) != (self.overlong_penalty > 0):
            raise ValueError(
                f"reward.overlong_buffer_tokens = {self.overlong_buffer_tokens} and reward.overlong_penalty = "
                f"{self.overlong_penalty:g} work together only: give both a value above 0, or neither"
            )
        return self


class EvaluationRewardSection(RewardSection):
    """How answers are judged after the fact."""

    functions: RewardNames = ("exact_match",)
    """Reward functions: plugin names, `file.py:function` or `package.module:attr`. Scores are added by weight."""
