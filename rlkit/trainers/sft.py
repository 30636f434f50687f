"""Supervised fine-tuning: batches of conversations, one optimizer step each."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from rlkit.data.order import EpochOrder
from rlkit.protocols import SupervisedTrainee
from rlkit.tracking.loss_record import LossRecord
from rlkit.trainers.clock import StageClock
from rlkit.trainers.performance import WorkMeter
from rlkit.trainers.run_events import RunEvents
from rlkit.trainers.skipped_steps import SkippedSteps
from rlkit.trainers.stop_signal import StopSignal
from rlkit.types import SupervisedBatch

EVALUATION_ROWS = 256
"""Conversations handed to the backend at once when measuring the validation loss."""


@dataclass(frozen=True)
class SFTSettings:
    """The numbers of the loop; see the config sections for what each means."""

    steps: int
    batch_size: int
    validate_every: int
    checkpoint_every: int
    keep_best: bool = True


@dataclass(frozen=True)
class SFTParts:
    """Everything the loop works with, assembled."""

    trainee: SupervisedTrainee
    data: SupervisedBatch
    order: EpochOrder
    validation: SupervisedBatch | None = None
    meter: WorkMeter = field(default_factory=WorkMeter)


@dataclass
class SFTState:
    """What a checkpoint must hold besides the model.

    step        optimizer steps done
    skipped     of them, those in a row just now whose gradients were not finite
    validation  which validation had the lowest loss so far
    """

    step: int = 0
    skipped: SkippedSteps = field(default_factory=SkippedSteps)
    validation: LossRecord = field(default_factory=LossRecord)

    def as_json(self) -> dict[str, Any]:
        return asdict(self)

    def restore(self, content: Mapping[str, Any]) -> None:
        self.step = content["step"]
        self.skipped = SkippedSteps(**content["skipped"])
        self.validation.restore(content["validation"])


@dataclass
class SFTTrainer:
    """Runs the loop."""

    settings: SFTSettings
    parts: SFTParts
    events: RunEvents
    state: SFTState = field(default_factory=SFTState)

    def fit(self, stop: StopSignal) -> None:
        """Train until the last step, or until `stop` is requested; either way the last state is saved."""
        while self.state.step < self.settings.steps and not stop.requested:
            self.learn_one_batch()
            self.validate_when_due()
            self.checkpoint_when_due()
        if self.state.step >= self.settings.steps and not self.state.validation.covers(self.state.step):
            self.validate()
        self.save_checkpoint()

    def learn_one_batch(self) -> None:
        """One optimizer step."""
        clock, order = StageClock(), self.parts.order
        batch = self.parts.data.select(order.take(self.settings.batch_size))
        with clock.stage("update"):
            metrics = dict(self.parts.trainee.update_supervised(batch))
        self.state.step += 1
        self.state.skipped.note(metrics, tokens=batch.num_loss_tokens, step=self.state.step)
        metrics["sft/tokens"] = float(batch.token_ids.num_tokens)
        metrics["sft/loss_tokens"] = float(batch.num_loss_tokens)
        metrics["sft/epoch"] = order.epoch + order.position / order.num_rows
        self.parts.meter.note_supervised_update(clock, batch)
        speed = self.parts.meter.metrics(clock, step_tokens=batch.token_ids.num_tokens)
        self.events.step_finished(self.state.step, {**metrics, **clock.metrics(), **speed})

    def validate_when_due(self) -> None:
        every = self.settings.validate_every
        if every and self.state.step % every == 0 and self.state.step < self.settings.steps:
            self.validate()

    def validate(self) -> None:
        """Mean cross-entropy over the loss tokens of the validation data, in nats; the state of the lowest so far is saved."""
        data = self.parts.validation
        if data is None:
            return
        total, tokens = 0.0, 0
        for start in range(0, len(data), EVALUATION_ROWS):
            rows = range(start, min(start + EVALUATION_ROWS, len(data)))
            loss, count = self.parts.trainee.evaluate(data.select(rows))
            total, tokens = total + loss, tokens + count
        mean = total / max(tokens, 1)
        is_best = self.state.validation.note(self.state.step, mean)
        self.events.validation_finished(self.state.step, {"sft/validation_loss": mean})
        if is_best and self.settings.keep_best:
            self.save_checkpoint()

    def checkpoint_when_due(self) -> None:
        every = self.settings.checkpoint_every
        if every and self.state.step % every == 0 and self.state.step < self.settings.steps:
            self.save_checkpoint()

    def save_checkpoint(self) -> None:
        best = self.state.validation.best_step if self.settings.keep_best else None
        self.events.save_checkpoint(self.state.step, spare=() if best is None else (best,))
