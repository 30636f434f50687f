"""What a PPO checkpoint must hold besides the models."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from rlkit.algos.reward_shaping import Moments
from rlkit.data.order import EpochOrder
from rlkit.tracking.validation_record import ValidationRecord
from rlkit.trainers.skipped_steps import SkippedSteps
from rlkit.types import PromptBatch


@dataclass
class PPOState:
    """Counters that the next step depends on.

    step              PPO iterations done
    policy_version    policy updates done; the engine's answers carry it
    skipped           optimizer steps in a row whose gradients were not finite
    kl_coefficient    of the KL in the token rewards; changes only when it follows a target
    validation        which validation was the best so far
    reward_moments    of the scores of all iterations, when rewards are divided by their running spread
    """

    step: int = 0
    policy_version: int = 0
    skipped: SkippedSteps = field(default_factory=SkippedSteps)
    kl_coefficient: float = 0.0
    validation: ValidationRecord = field(default_factory=ValidationRecord)
    reward_moments: Moments = field(default_factory=Moments)

    def as_json(self) -> dict[str, Any]:
        return asdict(self)

    def restore(self, content: Mapping[str, Any]) -> None:
        self.step = content["step"]
        self.policy_version = content["policy_version"]
        self.skipped = SkippedSteps(**content["skipped"])
        self.kl_coefficient = content["kl_coefficient"]
        self.validation.restore(content["validation"])
        self.reward_moments = Moments(**content["reward_moments"])


@dataclass
class PromptStream:
    """Training prompts in a resumable order, `batch_size` at a time."""

    prompts: PromptBatch
    order: EpochOrder
    batch_size: int

    def next_batch(self, size: int = 0) -> PromptBatch:
        """The next `size` prompts; 0 means `batch_size`."""
        return self.prompts.select(self.order.take(size or self.batch_size))
