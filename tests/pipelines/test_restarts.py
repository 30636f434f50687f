"""A run that lost a worker."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest

from rlkit.cluster.worker_group import WorkerLostError
from rlkit.config.load import load_config
from rlkit.errors import ClusterError, ConfigError
from rlkit.pipelines.restarts import run_with_restarts
from rlkit.tracking.sole_process import RunLock


class Attempt:
    """Loses its worker a few times."""

    def __init__(self, losses: int, error: type[Exception] = WorkerLostError) -> None:
        self.losses, self.error = losses, error
        self.resumes: list[str] = []

    def __call__(self, resolved: Any, lock: RunLock) -> Path:
        self.resumes.append(resolved.config.run.resume)
        if len(self.resumes) <= self.losses:
            raise self.error("rank 1 (actor; process 7 on here) died")
        return Path("model")


def resolved(*assignments: str) -> Any:
    return load_config("sft", assignments=list(assignments), environ={})


def test_a_run_goes_on_in_its_own_folder_and_says_so(caplog: pytest.LogCaptureFixture) -> None:
    attempt = Attempt(losses=2)
    with caplog.at_level(logging.WARNING, logger="rlkit"):
        assert run_with_restarts(resolved("run.resume=never"), attempt) == Path("model")
    assert attempt.resumes == ["never", "auto", "auto"]
    assert caplog.messages == [
        f"rank 1 (actor; process 7 on here) died; going on from the last checkpoint (restart {number} of at most 5)"
        for number in (1, 2)
    ]


def test_the_restarts_of_a_run_are_counted() -> None:
    attempt = Attempt(losses=9)
    with pytest.raises(
        WorkerLostError, match=r"died; cluster\.max_restarts = 2, which are used up: the same command goes on"
    ):
        run_with_restarts(resolved("cluster.max_restarts=2"), attempt)
    assert len(attempt.resumes) == 3


def test_torchrun_s_processes_are_not_started_again_from_inside(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "1")
    monkeypatch.setenv("WORLD_SIZE", "2")
    attempt = Attempt(losses=1)
    with pytest.raises(WorkerLostError, match=r"died$"):
        run_with_restarts(resolved(), attempt)
    assert len(attempt.resumes) == 1


def test_other_errors_end_the_run() -> None:
    attempt = Attempt(losses=1, error=ClusterError)
    with pytest.raises(ClusterError):
        run_with_restarts(resolved(), attempt)
    assert len(attempt.resumes) == 1


def test_the_folder_s_lock_is_held_from_the_first_attempt_to_the_last(tmp_path: Path) -> None:
    held = []

    def attempt(resolved: Any, lock: RunLock) -> Path:
        held.append((tmp_path / ".lock").exists())
        lock.take(tmp_path)
        if len(held) == 1:
            raise WorkerLostError("rank 1 died")
        with pytest.raises(ConfigError), RunLock() as other:
            other.take(tmp_path)
        return tmp_path

    run_with_restarts(resolved(), attempt)
    assert held == [False, True] and not list(tmp_path.iterdir())
