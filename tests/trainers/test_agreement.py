"""A run says once, in one line, that engine and trainer disagree, and never when rounding explains the difference."""

from __future__ import annotations

import logging
import math

import pytest

from rlkit.testing.fakes import FakeActor
from rlkit.trainers.agreement import NORMAL_DIFFERENCE, AgreementWatch


@pytest.fixture
def warnings(caplog):
    """Function: the messages so far."""
    caplog.set_level(logging.INFO, logger="rlkit")
    return lambda: [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]


def metrics(mean, correlation=0.5):
    return {"rollout/log_prob_difference_mean": mean, "rollout/correlation": correlation}


@pytest.mark.parametrize("dtype", NORMAL_DIFFERENCE)
def test_what_rounding_explains_is_no_warning_and_anything_beyond_is_one_line(warnings, dtype):
    normal = NORMAL_DIFFERENCE[dtype]
    watch = AgreementWatch(dtype)
    watch.look(metrics(normal), answered_by=0, trained=0)
    assert warnings() == []
    watch.look(metrics(1.5 * normal, 0.98765), answered_by=0, trained=0)
    (message,) = warnings()
    assert "\n" not in message
    assert f"differ by {1.5 * normal:.2g} nats a token (normal in {dtype}: below {normal:g})" in message
    assert "correlate by 0.988" in message


def test_it_is_said_once(warnings):
    watch = AgreementWatch()
    for mean in (0.5, 1e-6, 0.7):
        watch.look(metrics(mean), answered_by=0, trained=0)
    assert len(warnings()) == 1


def test_nan_is_no_agreement(warnings):
    AgreementWatch().look(metrics(math.nan, math.nan), answered_by=0, trained=0)
    assert len(warnings()) == 1


def test_the_advice_depends_on_when_it_began_and_on_whose_weights_answered(warnings):
    AgreementWatch().look(metrics(0.5), answered_by=4, trained=4)
    watch = AgreementWatch()
    watch.look(metrics(1e-6), answered_by=0, trained=0)
    watch.look(metrics(0.5), answered_by=4, trained=4)
    AgreementWatch().look(metrics(0.5), answered_by=2, trained=4)
    at_once, later, stale = warnings()
    assert "from the first iteration on" in at_once
    assert "they agreed before: look at what hands the actor's weights to the engine" in later
    assert "the engine answered with weights of version 2, the trainer is at 4" in stale


def test_without_log_probs_to_compare_nothing_is_said(warnings):
    AgreementWatch().look({"actor/advantage_std": 1.0}, answered_by=0, trained=0)
    assert warnings() == []


def test_a_run_whose_actor_answers_otherwise_warns_and_another_does_not(build_loop, warnings):
    class Distorted(FakeActor):
        def compute_log_probs(self, rollouts, *, temperature, **others):
            return super().compute_log_probs(rollouts, temperature=2 * temperature, **others)

    build_loop(steps=3).fit()
    assert warnings() == []
    build_loop(steps=3, parts={"actor": Distorted(log_odds=1.0)}).fit()
    (message,) = warnings()
    assert "engine and trainer disagree" in message
