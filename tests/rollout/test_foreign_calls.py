from __future__ import annotations

import threading

import pytest

from rlkit.rollout.foreign_calls import CallTimeoutError, ForeignCalls


def test_results_come_in_order_and_errors_raise():
    calls = ForeignCalls(5.0)
    assert calls.for_each(lambda number: calls.call(lambda: number * 2, "double"), range(40)) == list(range(0, 80, 2))
    with pytest.raises(ZeroDivisionError):
        calls.for_each(lambda number: calls.call(lambda: 1 // number, "divide"), [1, 0])


def test_a_call_that_came_back_late_no_longer_counts():
    calls, gate = ForeignCalls(0.01), threading.Event()
    for _ in range(31):
        with pytest.raises(CallTimeoutError, match=r"no answer within 0\.01 s"):
            calls.call(lambda: gate.wait(20), "slow")
    gate.set()
    for thread in threading.enumerate():
        if thread.name == "call-slow":
            thread.join()
    calls.timeout_s = 60.0
    assert [calls.call(lambda: "fine", "slow") for _ in range(3)] == ["fine"] * 3
