"""What is done about an engine that differs from the trainer, as a section."""

from __future__ import annotations

import re
from typing import Any, Literal, cast

from pydantic import model_validator

from rlkit.config.base import Section
from rlkit.config.correction_presets import PresetName, fill_preset
from rlkit.config.fields import NonNegativeFloat, PositiveFloat, Texts

RejectionLevel = Literal["token", "seq_sum", "seq_mean", "seq_max"]
Divergence = Literal["k1", "k2", "k3"]
_REJECTION = re.compile(r"^(token|seq_sum|seq_mean|seq_max)_(k1|k2|k3)((?: +[0-9.eE+-]+){1,2})$")


def _parse_rejection(text: str) -> tuple[RejectionLevel, Divergence, float, float]:
    """(level, divergence, high, low) of `seq_mean_k1 0.9 1.1` or `token_k3 0.01`."""
    found = _REJECTION.match(text.strip())
    try:
        numbers = [float(number) for number in found[3].split()] if found else []
    except ValueError:
        numbers = []
    wanted = 2 if found and found[2] == "k1" else 1
    if not found or len(numbers) != wanted or numbers != sorted(numbers) or numbers[0] < 0:
        raise ValueError(
            f"rollout_correction.reject: '{text}' is no rule; write for example \"seq_mean_k1 0.9 1.1\" (lowest and highest "
            'ratio) or "token_k3 0.01" (highest divergence); levels: token, seq_sum, seq_mean, seq_max; divergences: k1, k2, k3'
        )
    if (found[1], found[2]) == ("seq_max", "k1"):
        raise ValueError(
            f"rollout_correction.reject: '{text}' would look at the smallest ratio of an answer only; "
            "use token_k1, or seq_max_k2 or seq_max_k3, which are large for ratios far from 1 on either side"
        )
    return cast(RejectionLevel, found[1]), cast(Divergence, found[2]), numbers[-1], numbers[0] if wanted == 2 else 0.0


class RolloutCorrectionSection(Section):
    """What is done about an engine whose probabilities differ from the trainer's; its `rollout/*` metrics are always there."""

    preset: PresetName = "none"
    """Ready-made values of the other keys (and of algorithm.policy_loss for bypass_pg_*); keys that are set besides it win. `rlkit config show` prints what it comes to; table: docs/algorithms.md."""
    importance_weights: Literal["none", "token", "sequence"] = "none"
    """Scale the loss by the ratio of the trainer's to the engine's probability: of each token, or of each whole answer."""
    weight_high: PositiveFloat = 2.0
    """Largest weight."""
    weight_low: NonNegativeFloat = 0.0
    """Smallest weight; used where `outside` is zero."""
    outside: Literal["truncate", "zero"] = "truncate"
    """truncate: larger weights are cut to weight_high; zero: weights outside weight_low to weight_high become 0 (IcePop)."""
    normalise: bool = False
    """Divide the weights by their mean, of tokens or of answers."""
    bypass: bool = False
    """Take the engine's log-probs for the old ones: saves a forward pass; the policy ratio, the weights and the rules then compare the present policy with the engine's, in every update."""
    reject: Texts = ()
    """Rules that tokens or answers must keep to stay in the loss: "seq_mean_k1 0.9 1.1" bounds a ratio, "token_k3 0.01" a divergence. All must hold."""

    @property
    def rules(self) -> tuple[tuple[RejectionLevel, Divergence, float, float], ...]:
        """(level, divergence, high, low) of each rule."""
        return tuple(map(_parse_rejection, self.reject))

    @model_validator(mode="before")
    @classmethod
    def _with_preset(cls, values: Any) -> Any:
        return fill_preset({"rollout_correction": values})["rollout_correction"]

    @model_validator(mode="after")
    def _weights_are_used(self) -> RolloutCorrectionSection:
        if self.importance_weights == "none":
            fields = type(self).model_fields
            idle = [
                name
                for name in ("weight_high", "weight_low", "outside", "normalise")
                if getattr(self, name) != fields[name].default
            ]
            if idle:
                raise ValueError(
                    f"rollout_correction.{idle[0]} = {getattr(self, idle[0])} has no weights to act on; "
                    "set rollout_correction.importance_weights to token or sequence"
                )
        elif self.outside == "truncate" and self.weight_low > 0:
            raise ValueError(
                f'rollout_correction.weight_low = {self.weight_low:g} is for rollout_correction.outside = "zero"; '
                "truncation cuts large weights only"
            )
        return self

    @model_validator(mode="after")
    def _is_sound(self) -> RolloutCorrectionSection:
        for rule in self.reject:
            _parse_rejection(rule)
        if self.bypass and self.normalise:
            raise ValueError(
                "rollout_correction.normalise needs the weights of all answers at once, which bypass never has; "
                "drop normalise or bypass"
            )
        if self.weight_low >= self.weight_high:
            raise ValueError(
                f"rollout_correction.weight_low {self.weight_low:g} must be below weight_high {self.weight_high:g}"
            )
        return self
