"""What is done about an engine that differs from the trainer, as a section."""

from __future__ import annotations

import re
from typing import Literal, cast

from pydantic import model_validator

from rlkit.config.base import Section
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
    return cast(RejectionLevel, found[1]), cast(Divergence, found[2]), numbers[-1], numbers[0] if wanted == 2 else 0.0


class RolloutCorrectionSection(Section):
    """What is done about an engine whose probabilities differ from the trainer's; its `rollout/*` metrics are always there."""

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
    """Take the engine's log-probs for the old ones: saves a forward pass; the policy ratio then measures from the engine's policy."""
    reject: Texts = ()
    """Rules that tokens or answers must keep to stay in the loss: "seq_mean_k1 0.9 1.1" bounds a ratio, "token_k3 0.01" a divergence. All must hold."""

    @property
    def rules(self) -> tuple[tuple[RejectionLevel, Divergence, float, float], ...]:
        """(level, divergence, high, low) of each rule."""
        return tuple(map(_parse_rejection, self.reject))

    @model_validator(mode="after")
    def _is_sound(self) -> RolloutCorrectionSection:
        rules = tuple(map(_parse_rejection, self.reject))
        if self.bypass and (rules or self.importance_weights != "none"):
            raise ValueError(
                "rollout_correction.bypass leaves nothing to correct: drop importance_weights and reject, or bypass"
            )
        if self.weight_low >= self.weight_high:
            raise ValueError(
                f"rollout_correction.weight_low {self.weight_low:g} must be below weight_high {self.weight_high:g}"
            )
        return self
