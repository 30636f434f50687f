"""When a rank counts as hung; real ranks are in tests/integration."""

from __future__ import annotations

import threading
from types import SimpleNamespace
from typing import Any

import pytest

from rlkit.cluster import ray_workers
from rlkit.cluster.ray_workers import RayWorkerGroup, WorkerLimits, WorkerSpace, _Watch
from rlkit.cluster.worker_group import WorkerLostError


class Clock:
    """Time that passes when it is told to."""

    def __init__(self) -> None:
        self.now = 100.0

    def monotonic(self) -> float:
        return self.now


class Rank:
    """A worker whose `health` answers with `says`, or never when that is None."""

    def __init__(self, says: str | None) -> None:
        self.says = says
        self.health = SimpleNamespace(options=lambda concurrency_group: SimpleNamespace(remote=lambda: self))


FAKE_RAY = SimpleNamespace(
    wait=lambda calls, num_returns, timeout: ([call for call in calls if call.says is not None], []),
    get=lambda call: call.says,
    exceptions=SimpleNamespace(RayError=LookupError),
)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    found = Clock()
    monkeypatch.setattr(ray_workers, "time", found)
    return found


def watch(*says: str | None, silence_s: float = 0.0, call_s: float = 0.0) -> Any:
    return _Watch(FAKE_RAY, [Rank(words) for words in says], WorkerLimits(1.0, silence_s, call_s))


def test_a_rank_that_answers_may_work_for_as_long_as_it_likes(clock: Clock) -> None:
    ranks = watch("in actor.save", "in actor.save", silence_s=10.0)
    for _ in range(100):
        clock.now += 9.0
        assert ranks.look([0, 1], "actor.save") == []


def test_a_silent_rank_is_hung_and_its_peers_are_not(clock: Clock) -> None:
    ranks = watch("in actor.save", None, silence_s=10.0)
    for _ in range(9):
        clock.now += 1.0
        assert ranks.look([0, 1], "actor.save") == []
    clock.now += 2.0
    ((rank, cause),) = ranks.look([0, 1], "actor.save")
    assert rank == 1
    assert cause.startswith("gave no sign of life for 10 s in actor.save") and "cluster.silence_timeout_s" in cause


def test_a_driver_that_was_held_up_itself_takes_no_rank_for_hung(clock: Clock) -> None:
    """The machine stood still, and the answer to the last question is still on its way."""
    ranks = watch(None, silence_s=10.0)
    clock.now += 1000.0
    assert ranks.look([0], "actor.save") == []


def test_without_limits_nobody_is_hung(clock: Clock) -> None:
    ranks = watch(None, None)
    clock.now += 1e6
    assert ranks.look([0, 1], "actor.save") == []


def test_of_ranks_that_take_too_long_the_one_that_the_others_wait_for_is_named(clock: Clock) -> None:
    waiting, stuck = "in actor.save for 60 s at distributed_c10d.py:1 (wait)", "in actor.save for 60 s at loss.py:3 (f)"
    ranks = watch(waiting, stuck, waiting, call_s=50.0)
    assert ranks.look([0, 1, 2], "actor.save") == []
    clock.now += 51.0
    ((rank, cause),) = ranks.look([0, 1, 2], "actor.save")
    assert rank == 1
    assert cause == f"was not done with actor.save after 50 s (cluster.call_timeout_s): {stuck}"


def test_guests_share_the_gpu_of_a_worker() -> None:
    space = WorkerSpace(("actor",), 2, gpus=True, guests=4)
    assert space.gpus_of_a_worker + 2 * space.gpus_of_a_guest == 1.0
    assert WorkerSpace(("actor",), 2, gpus=True).gpus_of_a_worker == 1.0
    assert WorkerSpace(("actor",), 2, guests=4).gpus_of_a_guest == 0.0


class Session:
    def check_alive(self) -> None:
        return


@pytest.mark.parametrize(("method", "limited"), [("generate", False), ("set_up", False), ("take_weights", True)])
def test_of_calls_to_the_ranks_engines_those_that_need_all_ranks_have_a_limit(
    clock: Clock, method: str, limited: bool
) -> None:
    group: Any = object.__new__(RayWorkerGroup)
    none_done = SimpleNamespace(
        **{**vars(FAKE_RAY), "wait": lambda calls, num_returns, timeout: ([], calls)},
    )
    actor = Rank("in engine")
    actor.call_engine = SimpleNamespace(remote=lambda *arguments: "call")  # type: ignore[attr-defined]
    vars(group).update(
        _ray=none_done, _session=Session(), _workers=[actor], _places=[None], space=WorkerSpace(("actor",), 1),
        _limits=WorkerLimits(1.0, 0.0, 50.0), _lock=threading.RLock(), _begun={}, _watch=None, _ended_by=None,
        close=lambda: None,
    )  # fmt: skip
    call = group.begin(0, "call_engine", method, ())
    assert group.wait_for([call], 0.0) == []
    clock.now += 51.0
    if not limited:
        assert group.wait_for([call], 0.0) == []
        return
    with pytest.raises(WorkerLostError, match=r"was not done with engine\.take_weights after 50 s"):
        group.wait_for([call], 0.0)
