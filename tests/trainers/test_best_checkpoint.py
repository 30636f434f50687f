"""The checkpoint of the best validation: kept beside the newest ones, and the same whenever a run was killed."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from rlkit.testing.fakes import FakeEngine
from rlkit.tracking.checkpoint_writer import CheckpointWriter
from rlkit.tracking.checkpoints import CheckpointStore


class Killed(BaseException):
    """The end of the process."""


class Scripted:
    """A validator whose scores are given by step."""

    def __init__(self, scores: Mapping[int, float]) -> None:
        self.scores = scores

    def run(self, engine: FakeEngine, step: int) -> dict[str, float]:
        score = self.scores[step]
        bounds = {"validation/score_low": score - 0.1, "validation/score_high": score + 0.1}
        return {"validation/score": score, "validation/prompts": 20.0, **bounds}


Build = Callable[..., Any]


@pytest.fixture
def build(build_loop: Build, tmp_path: Path) -> Build:
    """Function: a loop whose checkpoints hold its whole state, going on from the newest one."""

    def made(*, folder: str = "run", keep: int = 1, **changes: Any) -> Any:
        loop = build_loop(estimator="grpo", **{"steps": 6, "validate_every": 1, **changes})
        trainer, order = loop.trainer, loop.trainer.parts.prompts.order
        loop.store = CheckpointStore(tmp_path / folder, keep=keep)

        def fill(target: Path) -> None:
            loop.actor.save(target)
            (target / "trainer.json").write_text(json.dumps([trainer.state.as_json(), order.state()]))

        trainer.events.checkpoints = CheckpointWriter(loop.store, fill, in_background=False)
        newest = loop.store.newest_whole()
        if newest is not None:
            state, position = json.loads((newest[1] / "trainer.json").read_text())
            trainer.state.restore(state)
            order.restore(position)
            loop.actor.load(newest[1])
        return loop

    return made


def scripted(scores: Sequence[float]) -> dict[str, Any]:
    return {"parts": {"validator": Scripted(dict(enumerate(scores)))}}


def test_the_best_survives_the_newest_ones(build):
    loop = build(**scripted([0.9, 0.2, 0.6, 0.5, 0.4, 0.3, 0.1])).fit()
    assert loop.store.steps() == [2, 6]
    assert loop.trainer.state.validation.best_step == 2


def test_a_new_best_lets_the_old_one_go(build):
    loop = build(**scripted([0.0, 0.2, 0.6, 0.5, 0.7, 0.3, 0.1])).fit()
    assert loop.store.steps() == [4, 6]


def test_it_counts_among_the_newest_while_it_is_one_of_them(build):
    loop = build(keep=2, checkpoint_every=1, **scripted([0.0, 0.2, 0.3, 0.4, 0.5, 0.7, 0.1])).fit()
    assert loop.store.steps() == [5, 6]


def test_without_keep_best_only_the_newest_are_kept(build):
    loop = build(keep_best=False, **scripted([0.0, 0.2, 0.6, 0.5, 0.4, 0.3, 0.1])).fit()
    assert loop.store.steps() == [6]
    assert ("checkpoint", 2) not in loop.recorder.events


def test_the_starting_model_is_not_saved(build):
    loop = build(**scripted([0.9, 0.2, 0.1, 0.1, 0.1, 0.1, 0.1])).fit()
    assert [event for event in loop.recorder.events if event[0] == "checkpoint"] == [
        ("checkpoint", 1),
        ("checkpoint", 6),
    ]


def test_the_last_step_is_validated_once_however_often_the_run_is_taken_up(build):
    build(**scripted([0.1] * 7)).fit()
    again = build(**scripted([0.1] * 7)).fit()
    assert ("validation", 6) not in again.recorder.events


class Peaked:
    """A validator that likes a policy best which has learned a little: the best step is neither the first nor the last."""

    def run(self, engine: FakeEngine, step: int) -> dict[str, float]:
        return Scripted({step: 1 - abs(engine.log_odds - 0.4)}).run(engine, step)


def outcome(loop: Any) -> Any:
    best = loop.trainer.state.validation.best_step
    return loop.trainer.state.as_json(), loop.store.steps(), (loop.store.path(best) / "state.json").read_text()


def kill(loop: Any, when: str, at: int) -> None:
    """Make the run die at the step `at`: after its validation, in the middle of its checkpoint, or after that."""
    events, writer = loop.trainer.events, loop.trainer.events.checkpoints
    validated, saved, fill = events.validation_finished, events.save_checkpoint, writer.stage

    def die_after_validation(step: int, metrics: Any) -> None:
        validated(step, metrics)
        if step == at:
            raise Killed

    def die_while_filling(target: Path) -> None:
        fill(target)
        if loop.trainer.state.step == at:
            raise Killed

    def die_after_saving(step: int, **options: Any) -> None:
        saved(step, **options)
        if step == at:
            raise Killed

    if when == "after the validation":
        events.validation_finished = die_after_validation
    elif when == "while the checkpoint is written":
        writer.stage = die_while_filling
    else:
        events.save_checkpoint = die_after_saving


@pytest.mark.parametrize("when", ["after the validation", "while the checkpoint is written", "after the checkpoint"])
@pytest.mark.parametrize("at", [1, 2, 4, 5, 6])
def test_a_killed_run_ends_with_the_same_best_checkpoint(build, when, at):
    settings: dict[str, Any] = {"checkpoint_every": 2, "parts": {"validator": Peaked()}}
    whole = build(folder="whole", **settings).fit()
    assert 1 < whole.trainer.state.validation.best_step < 6
    killed = build(folder="killed", **settings)
    kill(killed, when, at)
    with suppress(Killed):  # at step 5 no checkpoint is written
        killed.fit()
    assert killed.trainer.state.step == at or when != "after the validation"
    assert outcome(build(folder="killed", **settings).fit()) == outcome(whole)
