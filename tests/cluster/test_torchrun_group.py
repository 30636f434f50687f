"""What the leader makes of failures; whole runs are in tests/integration."""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch.distributed

from rlkit.cluster import torchrun_group
from rlkit.cluster.process_group import free_port
from rlkit.cluster.torchrun_group import TorchrunGroup
from rlkit.cluster.worker_group import WorkerLostError
from rlkit.errors import DataError, ModelError

LOST = RuntimeError("[gloo/transport/tcp/pair.cc:547] Connection closed by peer [127.0.0.1]:2")


class Channel:
    """Followers that return None, until one is lost; keeps what is sent to the last of them."""

    def __init__(self) -> None:
        self.sent: list[Any] = []
        self.is_lost = False

    def scatter(self, received: list[Any], calls: list[Any], *, src: int, group: Any) -> None:
        self.sent.append(calls[-1])

    def gather(self, found: Any, results: list[Any], *, dst: int, group: Any) -> None:
        if self.is_lost:
            raise LOST
        results[0] = found


class Worker:
    def __init__(self, rank: int, size: int, *, own_device: str) -> None:
        return

    def join(self, *arguments: Any) -> None:
        return

    def next_chunk(self, name: str) -> tuple[bool, None]:
        return False, None

    def fail(self) -> None:
        raise ModelError("no such tensor")

    def close(self) -> None:
        return


@pytest.fixture
def channel(monkeypatch: pytest.MonkeyPatch) -> Channel:
    found = Channel()
    monkeypatch.setattr(torch.distributed, "scatter_object_list", found.scatter)
    monkeypatch.setattr(torch.distributed, "gather_object", found.gather)
    return found


@pytest.fixture
def group(channel: Channel, monkeypatch: pytest.MonkeyPatch) -> TorchrunGroup:
    monkeypatch.setattr(torchrun_group, "end_with_parent", lambda: None)
    monkeypatch.setattr(torchrun_group, "_open_channel", lambda timeout_s, patience_s, gpus: None)
    monkeypatch.setattr(torchrun_group, "TrainingWorker", Worker)
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("MASTER_ADDR", "127.0.0.1")
    return TorchrunGroup(1.0, device="cpu")


@pytest.mark.parametrize(
    "use", [lambda group: group.next_chunk("actor"), lambda group: group.call("join")], ids=["export", "call"]
)
def test_a_follower_that_is_lost_is_one_line(
    use: Callable[[TorchrunGroup], object], group: TorchrunGroup, channel: Channel
) -> None:
    use(group)
    channel.is_lost = True
    with pytest.raises(
        WorkerLostError, match=r"rank 0 \(process .* lost the other ranks in .*Connection closed by peer"
    ):
        use(group)


def test_after_a_failure_no_call_waits_for_followers_that_are_elsewhere(group: TorchrunGroup, channel: Channel) -> None:
    with pytest.raises(ModelError):
        group.call("fail")
    sent = len(channel.sent)
    for again in (lambda: group.call("join"), lambda: group.next_chunk("actor")):
        with pytest.raises(ModelError, match="no such tensor"):
            again()
    group.close()
    assert len(channel.sent) == sent


@pytest.mark.parametrize(
    ("error", "code"), [(None, 0), (DataError("bad row"), 4), (KeyError("x"), 1)], ids=["done", "data", "bug"]
)
def test_followers_that_wait_for_a_call_are_told_how_it_ended(
    error: Exception | None, code: int, group: TorchrunGroup, channel: Channel
) -> None:
    group.call("join")
    with contextlib.suppress(DataError, KeyError), contextlib.closing(group):
        if error is not None:
            raise error
    assert [sent.exit_code for sent in channel.sent[1:]] == [code]
    group.close()
    assert len(channel.sent) == 2
    with pytest.raises(WorkerLostError, match="told to end"):
        group.call("join")


def test_a_call_that_another_thread_never_comes_back_from_does_not_keep_the_leader(
    group: TorchrunGroup, channel: Channel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torchrun_group, "MOMENT_S", 0.1)
    is_over, has_begun = threading.Event(), threading.Event()
    group._worker.wait = lambda: has_begun.set() or is_over.wait(60)  # type: ignore[attr-defined]
    thread = threading.Thread(target=group.call, args=("wait",))
    thread.start()
    assert has_begun.wait(30)
    group.close()
    assert len(channel.sent) == 1
    is_over.set()
    thread.join()


STOPPED = """
import os, pathlib, signal, sys, time
import torch.distributed
from rlkit.cluster.torchrun_group import TorchrunGroup, follow
# Loading takes longer than the three seconds that they have to find each other.
folder = pathlib.Path(sys.argv[1])
(folder / os.environ["RANK"]).touch()
while len(list(folder.iterdir())) < 2:
    time.sleep(0.01)
if os.environ["RANK"] == "1":
    follow(3.0, device="cpu")
    sys.exit(0)
group = TorchrunGroup(3.0, device="cpu")
pid = group.call("place")[1].pid
os.kill(pid, signal.SIGSTOP)
try:
    group.call("place")
except Exception as error:
    print(type(error).__name__, error, flush=True)
os.kill(pid, signal.SIGKILL)
os._exit(0)
"""


@pytest.mark.slow
def test_a_follower_that_is_stopped_is_noticed(tmp_path: Path) -> None:
    variables = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port("127.0.0.1"))}
    ranks = [
        subprocess.Popen(
            [sys.executable, "-c", STOPPED, str(tmp_path)],
            env={**os.environ, **variables, "RANK": str(rank), "LOCAL_RANK": str(rank)},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for rank in (0, 1)
    ]
    try:
        output, _ = ranks[0].communicate(timeout=120)
    finally:
        for process in ranks:
            process.kill()
            process.communicate()
    assert re.search(r"WorkerLostError rank 0 \(process \d+\) lost the other ranks in place: .*[Tt]imed out", output), (
        output
    )
