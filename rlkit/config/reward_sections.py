"""How answers are judged, as sections."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, model_validator

from rlkit.config.base import Section
from rlkit.config.fields import NonNegativeFloat, NonNegativeInt, PositiveFloat, RewardNames


class RewardSection(Section):
    """How answers are judged."""

    functions: RewardNames = ()
    """Reward functions: plugin names, `file.py:function` or `package.module:attr`. Scores are added by weight. Required."""
    weights: tuple[float, ...] = ()
    """One weight for each function; empty means 1 for each."""
    options: dict[str, dict[str, Any]] = Field(default_factory=dict)
    """Options by function name: `[reward.options.gsm8k]`."""
    timeout_s: PositiveFloat = 30.0
    """Seconds after which one call of a reward function (one batch) counts as failed."""
    on_error: Literal["stop", "zero"] = "stop"
    """What a failed verdict does: stop the run with the reason, or score 0 and be counted in `reward/errors`."""

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
