"""What a rank's failure is called."""

from __future__ import annotations

import pytest

from rlkit.cluster.worker_group import Fault, WorkerLostError, error_of, fault_of, root_of
from rlkit.errors import ClusterError, ModelError

WORKER = "rank 1 (actor, critic; process 7 on here)"


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (MemoryError("no room"), "memory"),
        (RuntimeError("CUDA out of memory. Tried to allocate 2 GiB"), "memory"),
        (RuntimeError("[enforce fail at alloc_cpu.cpp] DefaultCPUAllocator: can't allocate memory"), "memory"),
        (RuntimeError("[gloo/transport/tcp/pair.cc:547] Connection closed by peer [127.0.0.1]:2"), "peer"),
        (RuntimeError("NCCL error: remote process exited"), "peer"),
        (ValueError("gloo is a word of mine"), "error"),
        (IndexError("index 9 is out of bounds"), "error"),
    ],
)
def test_what_a_rank_raises_says_what_kind_of_failure_it_is(error: Exception, kind: str) -> None:
    assert fault_of(error, WORKER, "actor.update_policy").kind == kind


def test_the_rank_that_brought_the_others_down_is_the_one_to_blame() -> None:
    peer, died, memory = Fault("peer", "rank 0", "x"), Fault("died", "rank 1", "x"), Fault("memory", "rank 2", "x")
    assert root_of([peer, died]) is died
    assert root_of([peer, memory]) is memory
    assert root_of([peer]) is peer


@pytest.mark.parametrize("kind", ["died", "memory", "hung", "peer"])
def test_a_lost_rank_is_one_line_with_rank_roles_and_cause_and_may_be_started_again(kind: str) -> None:
    error = error_of(Fault(kind, WORKER, "gave no sign of life"))  # type: ignore[arg-type]
    assert isinstance(error, WorkerLostError)
    assert str(error) == f"{WORKER} gave no sign of life"


def test_an_error_that_would_come_again_does_not_start_the_run_again() -> None:
    error = error_of(fault_of(IndexError("row\n9"), WORKER, "actor.update_policy"))
    assert type(error) is ClusterError
    assert str(error) == f"{WORKER} failed in actor.update_policy: IndexError: row 9"


def test_rlkit_s_own_errors_are_passed_on_as_they_are() -> None:
    error = ModelError("no such tensor")
    assert error_of(fault_of(error, WORKER, "build actor")) is error
