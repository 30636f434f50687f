"""References that follow the actor: when they do, and what the run then measures."""

from __future__ import annotations

import pytest
import torch

from rlkit.testing.fakes import WEIGHT_NAME, FakeActor, FakeMovingReference
from rlkit.trainers.moving_reference import ReferenceCourse


def loop_with(build_loop, course, **changes):
    parts = {"reference": course.reference, "reference_course": course, **changes.pop("parts", {})}
    return build_loop(parts=parts, estimator="grpo", **changes)


def kl_of(loop):
    return [metrics["actor/kl_to_reference"] for _, metrics in sorted(loop.recorder.metrics.items())]


def test_a_refresh_copies_the_actor_every_so_many_iterations_and_the_kl_drops_to_zero(build_loop):
    loop = loop_with(build_loop, ReferenceCourse(FakeMovingReference(), every=3), steps=7).fit()
    kl = kl_of(loop)
    assert kl[0] == kl[3] == kl[6] == 0.0
    assert all(kl[step] > 0 for step in (1, 2, 4, 5))
    updates = [metrics["reference/updates"] for _, metrics in sorted(loop.recorder.metrics.items())]
    assert updates == [0, 0, 1, 1, 1, 2, 2]


def test_a_moving_average_takes_a_step_after_every_iteration(build_loop):
    reference = FakeMovingReference()
    seen = []

    class Watched(FakeActor):
        def export_weights(self):
            seen.append(self.parameter.item())
            return super().export_weights()

    course = ReferenceCourse(reference, decay=0.75)
    loop = loop_with(build_loop, course, steps=4, parts={"actor": Watched()}).fit()
    expected = 0.0
    for value in seen[2::2]:  # each iteration: once for the reference, once for the engine
        expected = 0.75 * expected + 0.25 * value
    assert len(seen) == 9
    assert reference.parameter.item() == pytest.approx(expected)
    assert 0 < reference.parameter.item() < loop.trainer.parts.actor.parameter.item()
    assert loop.recorder.metrics[4]["reference/updates"] == 4


def test_a_frozen_reference_never_moves_and_reports_nothing(build_loop):
    reference = FakeMovingReference()
    loop = build_loop(estimator="grpo", steps=4, parts={"reference": reference}).fit()
    assert reference.parameter.item() == 0.0
    assert kl_of(loop)[-1] > 0
    assert "reference/updates" not in loop.recorder.metrics[4]


def test_the_fake_averages_by_hand_and_copies_without_decay():
    reference = FakeMovingReference(log_odds=1.0)
    reference.update_weights([(WEIGHT_NAME, torch.tensor(3.0))], decay=0.75)
    assert reference.parameter.item() == pytest.approx(0.75 * 1.0 + 0.25 * 3.0)
    reference.update_weights([(WEIGHT_NAME, torch.tensor(3.0))])
    assert reference.parameter.item() == 3.0
