"""Running a function on several ranks of torch.distributed (gloo, this machine), for tests of what is spread over processes.

    parent --fork server with the heavy modules imported once--> one process a rank --file rendezvous--> gloo group
    result of each rank --bytes through a pipe--> parent;  first error or the deadline --> all of them are killed

Starting the server takes some seconds, a case after that less than one.
"""

from __future__ import annotations

import io
import multiprocessing
import os
import tempfile
import time
import traceback
from collections.abc import Callable, Sequence
from datetime import timedelta
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

TIMEOUT_S = 300.0
PRELOADED = (
    "torch.distributed.tensor",
    "torch.distributed.fsdp",
    "transformers.modeling_utils",
    "rlkit.testing.rank_cases",
)


class RankFailedError(AssertionError):
    """A rank raised, died or did not answer in time; the message says which, with its traceback."""


def run_on_ranks(
    function: Callable[..., Any],
    *arguments: Any,
    ranks: int,
    timeout_s: float = TIMEOUT_S,
    preload: Sequence[str] = (),
) -> list[Any]:
    """`function(*arguments)` on each rank of a new group, one thread each; what they return, in the order of ranks.

    `function` has to be importable by its name. With `ranks` 1 there is no group at all. `preload` names further modules
    for the fork server; only the first call in a process has a say. Raises `RankFailedError` as soon as one rank fails;
    none of the processes outlives the call.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([*PRELOADED, *preload])
    with tempfile.TemporaryDirectory(prefix="rlkit-ranks-") as folder:
        rendezvous = Path(folder) / "rendezvous"
        started: list[tuple[Any, Connection]] = []
        try:
            for rank in range(ranks):
                here, there = context.Pipe(duplex=False)
                call = (function, arguments, rank, ranks, rendezvous, timeout_s)
                process = context.Process(target=_run_rank, args=(there, *call), daemon=True)
                process.start()
                there.close()
                started.append((process, here))
            return _collect([connection for _, connection in started], timeout_s)
        finally:
            for process, connection in started:
                process.kill()
                process.join()
                connection.close()


def _collect(connections: list[Connection], timeout_s: float) -> list[Any]:
    results: dict[int, Any] = {}
    deadline = time.monotonic() + timeout_s
    while len(results) < len(connections):
        waiting = [connection for rank, connection in enumerate(connections) if rank not in results]
        ready = wait(waiting, timeout=max(0.0, deadline - time.monotonic()))
        if not ready:
            missing = [str(rank) for rank in range(len(connections)) if rank not in results]
            raise RankFailedError(f"rank {', '.join(missing)} did not answer within {timeout_s:g} s")
        # Whoever failed first pulled the others down: an error that was raised says more than a pipe that broke.
        for connection in ready:
            rank = connections.index(connection)  # type: ignore[arg-type]
            results[rank] = _receive(connections[rank], rank)
    return [results[rank] for rank in range(len(connections))]


def _receive(connection: Connection, rank: int) -> Any:
    import torch

    try:
        succeeded, content = connection.recv_bytes(), connection.recv_bytes()
    except EOFError as error:
        raise RankFailedError(f"rank {rank} died without a word") from error
    if succeeded != b"done":
        raise RankFailedError(f"rank {rank} failed:\n{content.decode()}")
    return torch.load(io.BytesIO(content), weights_only=False)  # our own child's


def _run_rank(
    connection: Connection,
    function: Callable[..., Any],
    arguments: tuple[Any, ...],
    rank: int,
    ranks: int,
    rendezvous: Path,
    timeout_s: float,
) -> None:
    import torch
    import torch.distributed as dist

    os.environ.update(OMP_NUM_THREADS="1", GLOO_SOCKET_IFNAME="lo")
    torch.set_num_threads(1)
    try:
        if ranks > 1:
            dist.init_process_group(
                "gloo",
                init_method=f"file://{rendezvous}",
                rank=rank,
                world_size=ranks,
                timeout=timedelta(seconds=timeout_s),
            )
        content = io.BytesIO()
        # Bytes of our own: tensors in a queue would die with this process.
        torch.save(function(*arguments), content)
        if ranks > 1:
            dist.barrier()  # nobody leaves while another still needs the group
        connection.send_bytes(b"done")
        connection.send_bytes(content.getvalue())
    except BaseException:
        connection.send_bytes(b"failed")
        connection.send_bytes(traceback.format_exc().encode())
    finally:
        connection.close()
        if dist.is_initialized():
            dist.destroy_process_group()
