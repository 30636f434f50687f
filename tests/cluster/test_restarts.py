from __future__ import annotations

from rlkit.cluster.restarts import RestartBudget


def test_so_many_are_allowed_in_any_window_and_more_later() -> None:
    time = [0.0]
    budget = RestartBudget(2, 10.0, now=lambda: time[0])
    assert budget.take()
    time[0] = 6.0
    assert budget.take()
    assert not budget.take()
    time[0] = 10.0
    assert budget.take()
    assert not budget.take()
    assert budget.total == 3


def test_none_are_allowed_when_the_limit_is_none() -> None:
    assert not RestartBudget(0, 10.0).take()
