"""Workers of a real Ray that take long: at a rollout while a checkpoint is written, at a write that hangs, at their start."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from rlkit.cluster.ray_session import ClusterSettings, RaySession, open_ray
from rlkit.cluster.ray_workers import RayTrainingWorker, RayWorkerGroup, WorkerLimits, WorkerSpace
from rlkit.cluster.spread_save import SpreadSave
from rlkit.cluster.worker_group import WorkerLostError

pytestmark = pytest.mark.slow

CALL_S = 4.0
"""The limit for calls of the tests; a rollout may take longer."""

Start = Callable[..., RayWorkerGroup]


@pytest.fixture(scope="module")
def session() -> Iterator[RaySession]:
    found = open_ray(ClusterSettings(num_cpus=2))
    yield found
    found.close()


def slow_worker(start_s: float, save_s: float) -> type[Any]:
    """Of this module no worker knows: a class made here is sent with its code."""

    class SlowWorker(RayTrainingWorker):
        def __init__(self, rank: int, size: int) -> None:
            time.sleep(start_s)
            super().__init__(rank, size)
            model = type(
                "Model", (), {"begin_save": lambda self, folder: self, "wait": lambda self: time.sleep(save_s)}
            )
            self._models["actor"] = model()
            self._engine = type("Engine", (), {"generate": lambda self, seconds: time.sleep(seconds) or "answers"})()

    return SlowWorker


@pytest.fixture
def start(session: RaySession, monkeypatch: pytest.MonkeyPatch) -> Iterator[Start]:
    """Function: two workers with limits in seconds."""
    groups: list[RayWorkerGroup] = []

    def begin(limits: WorkerLimits, *, start_s: float = 0.0, save_s: float = 0.0) -> RayWorkerGroup:
        monkeypatch.setattr(RayWorkerGroup, "worker_class", slow_worker(start_s, save_s))
        groups.append(RayWorkerGroup(session, WorkerSpace(("actor",), 2), limits))
        return groups[-1]

    yield begin
    for group in groups:
        group.close()


def test_a_checkpoint_is_done_while_a_rank_is_at_a_rollout_that_takes_longer_than_any_call(start: Start) -> None:
    group = start(WorkerLimits(120.0, 0.0, CALL_S))
    group.call("begin_save", "actor", "")
    rollout = group.begin(0, "call_engine", "generate", (3 * CALL_S,))
    save = threading.Thread(target=SpreadSave(group, "actor", Path()).wait)
    save.start()
    save.join(60)
    assert not save.is_alive()
    assert group.wait_for([rollout], 0.0) == []
    while not group.wait_for([rollout], 0.5):
        pass
    assert group.result(rollout) == "answers"


def test_a_write_that_hangs_is_the_loss_of_the_worker(start: Start) -> None:
    group = start(WorkerLimits(120.0, 0.0, CALL_S), save_s=3600.0)
    group.call("begin_save", "actor", "")
    with pytest.raises(
        WorkerLostError, match=r"^rank 0 \(actor; process \d+ on .*\) has finished no file .*call_timeout_s"
    ) as caught:
        SpreadSave(group, "actor", Path()).wait()
    with pytest.raises(WorkerLostError) as again:
        group.call("row_share")
    assert again.value is caught.value


def test_a_worker_may_need_longer_for_its_start_than_for_a_sign_of_life(start: Start) -> None:
    group = start(WorkerLimits(120.0, 2.0, CALL_S), start_s=6.0)
    assert [place is not None for place in group.places] == [True, True]


def test_a_worker_that_does_not_start_is_told(start: Start) -> None:
    with pytest.raises(WorkerLostError, match=r"rank \d \(actor\) was not done with its start .*start_timeout_s"):
        start(WorkerLimits(15.0, 2.0, CALL_S), start_s=3600.0)
