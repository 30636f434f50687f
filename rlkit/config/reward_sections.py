"""How answers are judged, as sections."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, model_validator

from rlkit.config.base import Section
from rlkit.config.fields import PluginNames, PositiveFloat


class RewardSection(Section):
    """How answers are judged."""

    functions: PluginNames = ()
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


class EvaluationRewardSection(RewardSection):
    """How answers are judged after the fact."""

    functions: PluginNames = ("exact_match",)
    """Reward functions: plugin names, `file.py:function` or `package.module:attr`. Scores are added by weight."""
