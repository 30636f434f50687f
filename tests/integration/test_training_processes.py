"""Training in processes that something else starts and ends: torchrun, a user's Ctrl-C, `kill -9`."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from killing import HOLD, held

from rlkit.testing.tiny_model import write_tiny_model

pytestmark = [pytest.mark.slow, pytest.mark.skipif(sys.platform != "linux", reason="processes are looked up in /proc")]

PROJECT = """\
[model]
path = "model"
[data]
train = ["rows.jsonl"]
[sft]
batch_size = 7
steps = 20
lr = 1e-3
[run]
output = "runs"
threads = 1
hooks = ["hold.py:Hold"]
[trainer]
checkpoint_every = 5
[cluster]
silence_timeout_s = 6
"""
TORCHRUN = (sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "-m", "rlkit")
ALONE = (sys.executable, "-m", "rlkit")
PATIENCE_S = 240.0
"""Far more than any of the processes needs to end."""

Start = Callable[..., subprocess.Popen[str]]


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("project")
    write_tiny_model(folder / "model")
    rows = [
        {"question": "+".join(str(k) for k in range(n % 5 + 1)) + "=", "answer": str(n % 10) * (n % 7 + 1)}
        for n in range(40)
    ]
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / "sft.toml").write_text(PROJECT)
    (folder / "hold.py").write_text(HOLD)
    return folder


@pytest.fixture
def start(project: Path) -> Iterator[Start]:
    """Function: a command, started; `name` is the run's. What is left of it at the end of the test is killed."""
    running: list[subprocess.Popen[str]] = []

    def begin(command: tuple[str, ...], name: str, *arguments: str) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [*command, "sft", "sft.toml", "--name", name, *arguments],
            cwd=project,
            env={**os.environ, "OMP_NUM_THREADS": "1", "RLKIT_OUTPUT": "plain"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        running.append(process)
        return process

    yield begin
    for process in running:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.communicate()


def finished(process: subprocess.Popen[str]) -> str:
    output, _ = process.communicate(timeout=PATIENCE_S)
    return output


def wait_until(condition: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.05)


def wait_for_step(project: Path, name: str, step: int, process: subprocess.Popen[str]) -> None:
    """Until the checkpoint of a step is there; fails when the run ends before."""
    folder = project / "runs" / name / "checkpoints" / f"step_{step:06d}"
    wait_until(lambda: folder.exists() or process.poll() is not None, f"{folder} does not come")
    assert process.poll() is None, finished(process)


def losses(project: Path, name: str) -> list[float]:
    lines = (project / "runs" / name / "metrics.jsonl").read_text().splitlines()
    return [entry["metrics"]["sft/loss"] for entry in map(json.loads, lines) if entry["event"] == "step"]


def descendants(pid: int) -> set[int]:
    """Processes below `pid`, by /proc."""
    parents: dict[int, int] = {}
    for status in Path("/proc").glob("[0-9]*/stat"):
        try:
            parents[int(status.parent.name)] = int(status.read_text().rpartition(")")[2].split()[1])
        except OSError:
            continue
    found, level = set(), {pid}
    while level:
        level = {child for child, parent in parents.items() if parent in level}
        found |= level
    return found


def named(pids: set[int], name: str) -> list[int]:
    return sorted(pid for pid in pids if name in command_line(pid))


def command_line(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()
    except OSError:
        return ""


def is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


def assert_gone(pids: set[int]) -> None:
    wait_until(
        lambda: not any(map(is_running, pids)), f"left: {[command_line(pid) for pid in pids if is_running(pid)]}"
    )


def test_torchrun_gives_the_losses_of_one_process(project: Path, start: Start) -> None:
    alone, two = start(ALONE, "alone"), start(TORCHRUN, "torchrun")
    output = finished(two)
    assert two.returncode == 0, output
    assert finished(alone) and alone.returncode == 0
    assert output.count("sft 'torchrun' finished") == 1
    expected, found = losses(project, "alone"), losses(project, "torchrun")
    assert len(found) == len(expected) == 20
    assert found == pytest.approx(expected, rel=1e-5)
    assert (project / "runs/torchrun/model/model.safetensors").exists()


def test_what_torchrun_began_goes_on_in_one_process(project: Path, start: Start) -> None:
    whole = start(ALONE, "whole", "--steps", "10")
    assert finished(whole) and whole.returncode == 0
    for command, steps in ((TORCHRUN, "5"), (ALONE, "10")):
        process = start(command, "taken_up", "--steps", steps)
        output = finished(process)
        assert process.returncode == 0, output
    assert losses(project, "taken_up") == pytest.approx(losses(project, "whole"), rel=1e-5)


def test_a_second_process_leaves_the_folder_of_a_run_alone(project: Path, start: Start) -> None:
    first = start(ALONE, "twice", "--steps", "3000")
    wait_for_step(project, "twice", 5, first)
    second = start(ALONE, "twice", "--steps", "3000", "--lr", "1e-5")
    output = finished(second)
    assert second.returncode == 2, output
    assert f"is being written by process {first.pid} on " in output.splitlines()[-1]
    done = len(losses(project, "twice"))
    wait_until(lambda: len(losses(project, "twice")) > done + 5, "the first one does not go on")
    first.kill()
    finished(first)
    whole = len(losses(project, "twice"))
    third = start(ALONE, "twice", "--steps", str(whole + 1))
    output = finished(third)
    assert third.returncode == 0, output
    assert len(losses(project, "twice")) == whole + 1


def test_a_stop_signal_to_torchrun_saves_the_state(project: Path, start: Start) -> None:
    process = start(TORCHRUN, "stopped", "--steps", "3000")
    wait_for_step(project, "stopped", 5, process)
    family = descendants(process.pid)
    process.send_signal(signal.SIGTERM)
    output = finished(process)
    assert "stopped; its state is saved in" in output, output
    done = len(losses(project, "stopped"))
    assert (project / f"runs/stopped/checkpoints/step_{done:06d}").is_dir()
    assert_gone(family)


FULL_DISK = """\
import errno, os, pathlib
_mkdir = pathlib.Path.mkdir
def mkdir(self, *arguments, **keywords):
    if ".step_000005.partial" in self.parts and self.name == "weights" and os.environ.get("RANK") == "{rank}":
        raise OSError(errno.ENOSPC, "No space left on device")
    return _mkdir(self, *arguments, **keywords)
pathlib.Path.mkdir = mkdir
"""
"""A sitecustomize.py: one rank cannot write its part of the checkpoint of step 5."""


@pytest.mark.parametrize("rank", [0, 1], ids=["leader", "follower"])
def test_a_rank_of_torchrun_whose_disk_is_full_goes_on(
    rank: int, project: Path, start: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "sitecustomize.py").write_text(FULL_DISK.format(rank=rank))
    monkeypatch.setenv("PYTHONPATH", str(tmp_path), prepend=os.pathsep)
    name = f"full_{rank}"
    process = start(TORCHRUN, name, "--steps", "10", "--set", "trainer.on_checkpoint_error=go_on")
    output = finished(process)
    assert process.returncode == 0, output
    assert f"the checkpoint of step 5 was not written (rank {rank}: " in output
    assert [folder.name for folder in (project / "runs" / name / "checkpoints").iterdir()] == ["step_000010"]


@pytest.mark.parametrize("victim", ["leader", "follower", "torchrun"])
def test_a_process_of_torchrun_that_is_killed_takes_the_others_along(victim: str, project: Path, start: Start) -> None:
    name = f"killed_{victim}"
    process = start(TORCHRUN, name, "--steps", "3000")
    wait_for_step(project, name, 5, process)
    family = descendants(process.pid)
    ranks = {rank_of(pid): pid for pid in family if rank_of(pid)}
    os.kill({"leader": ranks["0"], "follower": ranks["1"], "torchrun": process.pid}[victim], signal.SIGKILL)
    finished(process)
    assert process.returncode != 0
    assert_gone(family)


def rank_of(pid: int) -> str:
    try:
        variables = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    except OSError:
        return ""
    return next((entry[5:].decode() for entry in variables if entry.startswith(b"RANK=")), "")


STEPS_ON_RAY = 40
STOP_AT = 7
"""A step between two checkpoints, at which a run is held that something is to happen to."""


def on_ray(
    start: Start, project: Path, name: str, *, steps: int = STEPS_ON_RAY
) -> tuple[subprocess.Popen[str], set[int]]:
    """A run with two workers that is under way, and all processes that belong to it."""
    process = start_on_ray(start, name, steps)
    wait_for_step(project, name, 5, process)
    family = descendants(process.pid)
    assert len(named(family, "ray::RayTrainingWorker")) == 2
    return process, family


def start_on_ray(start: Start, name: str, steps: int = STEPS_ON_RAY) -> subprocess.Popen[str]:
    return start(ALONE, name, "--workers", "2", "--steps", str(steps))


@pytest.fixture
def uninterrupted(project: Path, start: Start) -> bytes:
    """The weights with which a run on Ray ends that nothing happens to; it is made once."""
    if not (project / "runs/uninterrupted/model").exists():
        process = start_on_ray(start, "uninterrupted")
        output = finished(process)
        assert process.returncode == 0, output
    return weights(project, "uninterrupted")


def weights(project: Path, name: str) -> bytes:
    return (project / "runs" / name / "model/model.safetensors").read_bytes()


def assert_goes_on_to(expected: bytes, project: Path, name: str, start: Start) -> None:
    """The same command once more ends the run with these weights."""
    process = start_on_ray(start, name)
    output = finished(process)
    assert process.returncode == 0, output
    assert len(losses(project, name)) == STEPS_ON_RAY
    assert json.loads((project / f"runs/{name}/run.json").read_text())["resumed"], "it started anew"
    assert weights(project, name) == expected


@pytest.mark.parametrize("stopped", [False, True], ids=["workers run", "a worker is stopped"])
def test_a_driver_that_is_killed_leaves_no_process_and_its_run_goes_on(
    stopped: bool, project: Path, start: Start, uninterrupted: bytes
) -> None:
    with held(project, STOP_AT):
        process, family = on_ray(start, project, f"orphans_{stopped}")
        if stopped:
            os.kill(named(family, "ray::RayTrainingWorker")[0], signal.SIGSTOP)
        process.kill()
        finished(process)
    assert_gone(family)
    assert_goes_on_to(uninterrupted, project, f"orphans_{stopped}", start)


def test_the_end_of_ray_s_node_process_is_the_end_of_the_run_until_it_is_started_again(
    project: Path, start: Start, uninterrupted: bytes
) -> None:
    with held(project, STOP_AT):
        process, family = on_ray(start, project, "raylet")
        os.kill(named(family, "raylet/raylet")[0], signal.SIGKILL)
    output = finished(process)
    assert process.returncode == 7, output
    last = output.splitlines()[-1]
    assert last.startswith("error: Ray's node process (raylet, process") and "all workers with it" in last
    assert_gone(family)
    assert_goes_on_to(uninterrupted, project, "raylet", start)


def test_ctrl_c_saves_the_state_and_ends_the_workers(project: Path, start: Start) -> None:
    process, family = on_ray(start, project, "interrupted", steps=3000)
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does: to everybody
    output = finished(process)
    assert process.returncode == 130, output
    done = len(losses(project, "interrupted"))
    assert (project / f"runs/interrupted/checkpoints/step_{done:06d}").is_dir()
    assert_gone(family)
