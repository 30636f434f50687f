"""`rlkit train ppo` on the quickstart with rewards that fail in every way: it goes on without such answers, or stops."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

REWARD = """
import os, signal, time, zlib

KEPT = []

def score(response, question):
    fault = zlib.crc32((question + response).encode()) % 24
    if fault == 0:
        time.sleep(3600)
    if fault == 1:
        raise ValueError("no")
    if fault == 2:
        return float("nan")
    if fault == 3:
        os._exit(1)
    if fault == 4:
        os.kill(os.getpid(), signal.SIGKILL)
    if fault == 5:
        KEPT.append(bytearray(1 << 30))
    if fault == 6 and os.fork() == 0:
        os.setsid()
        time.sleep(3600)
    return float(len(response) % 2)

def hangs(response):
    time.sleep(3600)

def wrong_length(samples):
    return [1.0]
"""
SETTINGS = (
    "rollout.prompts_per_step=16",
    "rollout.samples_per_prompt=4",
    "rollout.max_response_tokens=8",
    "algorithm.mini_batch_samples=32",
    "algorithm.advantage=grpo",
    "trainer.validate_first=false",
    "trainer.steps=3",
    "data.validation=[]",
    "reward.timeout_s=3",
    "reward.memory_mib=256",
)


@pytest.fixture(scope="module")
def folder(quickstart: Path) -> Path:
    (quickstart / "broken.py").write_text(REWARD)
    return quickstart


def arguments(name: str, function: str, *settings: str) -> list[str]:
    flags = [part for text in (*SETTINGS, *settings) for part in ("--set", text)]
    return ["train", "ppo", "ppo.toml", "--name", name, "--reward", f"broken.py:{function}", *flags]


def wait_until_gone(folder: Path) -> None:
    """A process that is told to end by the system is there for a moment longer."""
    deadline = time.monotonic() + 60
    while found := left_over(folder):
        assert time.monotonic() < deadline, f"left: {found}"
        time.sleep(0.05)


def left_over(folder: Path) -> list[int]:
    """Processes that were started in the folder and are still there."""
    found = []
    for entry in Path("/proc").iterdir():
        try:
            if entry.name.isdigit() and (entry / "cwd").resolve() == folder.resolve():
                found.append(int(entry.name))
        except OSError:
            continue
    return found


def test_a_run_goes_on_without_the_answers_that_cannot_be_judged_and_counts_them(folder: Path, rlkit_command) -> None:
    rlkit_command(folder, *arguments("faults", "score", "reward.on_error=leave_out", "reward.max_error_fraction=0.9"))
    entries = map(json.loads, (folder / "runs" / "faults" / "metrics.jsonl").read_text().splitlines())
    steps = [entry["metrics"] for entry in entries if entry["event"] == "step"]
    assert len(steps) == 3
    for kind in ("timeout", "exception", "value", "killed", "memory"):
        assert any(step.get(f"reward/errors_{kind}", 0) > 0 for step in steps), kind
    for step in steps:
        kinds = sum(value for name, value in step.items() if name.startswith("reward/errors_"))
        assert kinds == step["reward/errors"] > 0
        assert step["reward/left_out_fraction"] >= step["reward/errors"] / 64
        assert 0 <= step["reward/mean"] <= 1
    assert sum(step["reward/worker_restarts"] for step in steps) > 0
    wait_until_gone(folder)


@pytest.mark.parametrize(
    ("function", "settings", "reason"),
    [
        ("hangs", (), "no verdict within 3 s; its worker was killed"),
        ("wrong_length", (), "returned 1 verdicts for 64 answers"),
        (
            "score",
            ("reward.on_error=leave_out", "reward.max_error_fraction=0.02"),
            "more than reward.max_error_fraction = 0.02 allows",
        ),
    ],
)
def test_a_run_stops_with_the_reason_where_it_should(
    folder: Path, rlkit_command, function: str, settings: tuple[str, ...], reason: str
) -> None:
    result = rlkit_command(folder, *arguments(f"stops-{function}", function, *settings), code=5)
    (line,) = [line for line in result.stderr.splitlines() if "broken.py" in line and reason in line]
    assert line.startswith(("error", "rlkit"))
    wait_until_gone(folder)
