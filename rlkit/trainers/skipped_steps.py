"""Optimizer steps in a row that could not be taken: after too many of them the model is lost."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from rlkit.errors import TrainingError

MAX_SKIPPED_IN_A_ROW = 20
"""So many steps in a row with non-finite gradients mean that the model is lost, not that a batch was odd."""


@dataclass
class SkippedSteps:
    """How many steps just now had gradients that were not finite, for each model in training; part of a run's state."""

    in_a_row: dict[str, int] = field(default_factory=dict)

    def note(self, metrics: Mapping[str, float], *, tokens: float, step: int) -> None:
        """Take in the metrics of one optimizer step on `tokens` loss tokens, taken for step `step` of the run.

        A mini-batch without a token says nothing about the model. Raises `TrainingError` after `MAX_SKIPPED_IN_A_ROW`.
        """
        if tokens == 0:
            return
        for name, norm in metrics.items():
            model, _, last_part = name.rpartition("/")
            if last_part != "grad_norm":
                continue
            self.in_a_row[model] = 0 if math.isfinite(norm) else self.in_a_row.get(model, 0) + 1
            if self.in_a_row[model] >= MAX_SKIPPED_IN_A_ROW:
                raise TrainingError(
                    f"{self.in_a_row[model]} optimizer steps in a row had non-finite {model} gradients (step {step}); "
                    f"lower {model}.lr, or look at the last {'conversations' if model == 'sft' else 'rollouts'}"
                )
