"""What TensorBoard itself reads from the event files."""

from __future__ import annotations

import math

import pytest

pytest.importorskip("tensorboard")


def read(folder):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(folder), size_guidance={"scalars": 0, "tensors": 0})
    events.Reload()
    return events


def texts(events, tag):
    return {event.step: event.tensor_proto.string_val[0].decode() for event in events.Tensors(f"{tag}/text_summary")}


def test_metrics_config_answers_and_checkpoints_are_in_the_files(play, tmp_path):
    assert not play("tensorboard", answers_every=2, answers=2).failures
    events = read(tmp_path / "runs/played/tensorboard")
    assert {"reward/mean", "actor/loss", "actor/grad_norm", "validation/score"} == set(events.Tags()["scalars"])
    means = [(event.step, round(event.value, 6)) for event in events.Scalars("reward/mean")]
    assert means == [(1, 0.1), (2, 0.2), (3, 0.3), (4, 0.4)]
    assert math.isnan(events.Scalars("actor/grad_norm")[0].value)
    assert [event.step for event in events.Scalars("validation/score")] == [4]
    assert '"lr": 0.001' in texts(events, "config")[0]
    training = texts(events, "answers/training")
    assert set(training) == {2, 4} and "| a2 |" in training[2] and "b\\|b" in training[2]
    validation = texts(events, "answers/validation")[4]
    assert "| question 0 | answer 0 | 0 | 0.0 | stop |" in validation
    assert "| question 2 | answer 2 | 2 | 0.5 | stop |" in validation
    assert texts(events, "checkpoint")[4].endswith("step_000004`")


def test_a_resumed_run_goes_on_in_the_same_files_and_replaces_later_steps(play, tmp_path):
    play("tensorboard", status="failed")
    play("tensorboard", first=2, last=5)
    means = [event.step for event in read(tmp_path / "runs/played/tensorboard").Scalars("reward/mean")]
    assert means == [1, 2, 3, 4, 5]


def test_a_run_begun_anew_replaces_everything(play, tmp_path):
    play("tensorboard", last=4)
    play("tensorboard", last=2)
    means = [event.step for event in read(tmp_path / "runs/played/tensorboard").Scalars("reward/mean")]
    assert means == [1, 2]


def test_another_folder_is_used(play, tmp_path):
    play("tensorboard", folder=str(tmp_path / "logs"))
    assert len(read(tmp_path / "logs").Scalars("reward/mean")) == 4
