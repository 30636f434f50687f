"""The supervised loop: batches, validation over all rows, stopping."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import torch

from rlkit.data.order import EpochOrder
from rlkit.errors import TrainingError
from rlkit.plugin.hooks import HookRelay
from rlkit.plugin.hookspecs import RunInfo, hookimpl
from rlkit.tracking.checkpoint_writer import CheckpointWriter
from rlkit.tracking.checkpoints import CheckpointStore
from rlkit.trainers.run_events import RunEvents
from rlkit.trainers.sft import EVALUATION_ROWS, SFTParts, SFTSettings, SFTState, SFTTrainer
from rlkit.trainers.stop_signal import StopSignal
from rlkit.types import Ragged, SupervisedBatch


def conversations(rows: int) -> SupervisedBatch:
    """Row r has r % 3 + 2 tokens, of which all but the first are learned."""
    lengths = [row % 3 + 2 for row in range(rows)]
    tokens = Ragged.from_rows([[row] * length for row, length in enumerate(lengths)], dtype=torch.int64)
    mask = Ragged.from_rows([[False] + [True] * (length - 1) for length in lengths])
    return SupervisedBatch(tokens, mask)


@dataclass
class Trainee:
    """Remembers which rows it was shown; the loss of each token is given."""

    shown: list[list[int]] = field(default_factory=list)

    norm: float = 1.0
    losses: tuple[float, ...] = (2.0,)  # after each step; the last one stays

    def update_supervised(self, batch):
        self.shown.append([int(row[0]) for row in batch.token_ids.rows()])
        return {"sft/loss": 2.0, "sft/grad_norm": self.norm}

    def evaluate(self, batch):
        loss = self.losses[min(len(self.shown), len(self.losses)) - 1]
        return loss * batch.num_loss_tokens, batch.num_loss_tokens


@dataclass
class Recorder:
    events: list[tuple[str, int]] = field(default_factory=list)
    losses: list[float] = field(default_factory=list)
    metrics: list[dict[str, float]] = field(default_factory=list)

    @hookimpl
    def step_finished(self, step, metrics):
        self.events.append(("step", step))
        self.metrics.append(dict(metrics))

    @hookimpl
    def validation_finished(self, step, metrics):
        self.events.append(("validation", step))
        self.losses.append(metrics["sft/validation_loss"])

    @hookimpl
    def checkpoint_saved(self, step):
        self.events.append(("checkpoint", step))


@pytest.fixture
def build(tmp_path: Path):
    def make(
        *, steps=5, rows=10, validation=0, validate_every=0, checkpoint_every=0, keep=2, keep_best=True, **trained
    ):
        recorder, relay, trainee = Recorder(), HookRelay(), Trainee(**trained)
        relay.add("recorder", recorder)
        run = RunInfo("sft", "test", tmp_path, {}, steps, 0)
        store = CheckpointStore(tmp_path / "checkpoints", keep)
        events = RunEvents(run, relay, CheckpointWriter(store, lambda folder: None, in_background=False))
        parts = SFTParts(
            trainee, conversations(rows), EpochOrder(rows, seed=0), conversations(validation) if validation else None
        )
        settings = SFTSettings(steps, 4, validate_every, checkpoint_every, keep_best)
        return SFTTrainer(settings, parts, events, SFTState()), trainee, recorder

    return make


def test_two_epochs_show_every_row_twice(build):
    trainer, trainee, _ = build(steps=5, rows=10)
    trainer.fit(StopSignal())
    assert sorted(row for batch in trainee.shown for row in batch) == sorted(list(range(10)) * 2)
    assert [len(batch) for batch in trainee.shown] == [4] * 5


def test_validation_weighs_tokens_not_batches(build):
    trainer, _, recorder = build(validation=EVALUATION_ROWS + 3)
    trainer.fit(StopSignal())
    assert recorder.losses == [pytest.approx(2.0)]


def test_events_come_when_they_are_due(build):
    trainer, _, recorder = build(steps=4, validation=2, validate_every=2, checkpoint_every=3, keep_best=False)
    trainer.fit(StopSignal())
    expected = [("step", 1), ("step", 2), ("validation", 2), ("step", 3), ("checkpoint", 3), ("step", 4)]
    assert recorder.events == [*expected, ("validation", 4), ("checkpoint", 4)]


def test_a_stop_request_saves_and_skips_the_last_validation(build):
    trainer, trainee, recorder = build(steps=50, validation=2)
    stop = StopSignal()
    update = trainee.update_supervised

    def stop_at_three(batch):
        stop.requested = len(trainee.shown) == 2
        return update(batch)

    trainee.update_supervised = stop_at_three
    trainer.fit(stop)
    assert recorder.events == [("step", 1), ("step", 2), ("step", 3), ("checkpoint", 3)]


def test_metrics_say_how_far_the_data_has_gone(build):
    trainer, _, recorder = build(steps=5, rows=10)
    trainer.fit(StopSignal())
    assert [metrics["sft/epoch"] for metrics in recorder.metrics] == pytest.approx([0.4, 0.8, 1.2, 1.6, 2.0])


class TestBestCheckpoint:
    LOSSES = (2.0, 1.0, 1.5, 1.2, 1.4)

    def test_the_lowest_loss_survives_the_newest_ones(self, build):
        trainer, _, recorder = build(validation=2, validate_every=1, keep=1, losses=self.LOSSES)
        trainer.fit(StopSignal())
        assert trainer.events.checkpoints.store.steps() == [2, 5]
        assert trainer.state.validation.best_step == 2
        assert [step for event, step in recorder.events if event == "checkpoint"] == [1, 2, 5]

    def test_without_keep_best_only_the_newest_are_kept(self, build):
        trainer, _, _ = build(validation=2, validate_every=1, keep=1, keep_best=False, losses=self.LOSSES)
        trainer.fit(StopSignal())
        assert trainer.events.checkpoints.store.steps() == [5]

    def test_a_run_that_is_taken_up_remembers_the_best(self, build):
        trainer, _, _ = build(steps=3, validation=2, validate_every=1, keep=1, losses=self.LOSSES)
        trainer.fit(StopSignal())
        again, trainee, _ = build(steps=5, validation=2, validate_every=1, keep=1, losses=self.LOSSES)
        again.state.restore(json.loads(json.dumps(trainer.state.as_json())))
        trainee.shown.extend([[]] * 3)
        again.fit(StopSignal())
        assert again.state.validation.best_step == 2
        assert again.events.checkpoints.store.steps() == [2, 5]

    def test_the_last_step_is_validated_once_however_often_the_run_is_taken_up(self, build):
        trainer, _, _ = build(validation=2)
        trainer.fit(StopSignal())
        again, _, recorder = build(validation=2)
        again.state.restore(trainer.state.as_json())
        again.fit(StopSignal())
        assert recorder.losses == []


def test_a_model_without_finite_gradients_ends_the_run(build):
    trainer, trainee, _ = build(steps=100, norm=math.nan)
    with pytest.raises(TrainingError, match=r"20 optimizer steps in a row had non-finite sft gradients \(step 20\)"):
        trainer.fit(StopSignal())
    assert len(trainee.shown) == 20
