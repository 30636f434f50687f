"""Killed with SIGKILL at random moments, again and again, a run ends with the same bits as one that ran through.

Half of the kills are aimed at a checkpoint that is just being written. Rewards draw from the random generators of their
workers, which are seeded by the answer, and a hook from those of the trainer, which rlkit itself leaves alone.
"""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from pyarrow import parquet
from repeats import repeats

pytestmark = pytest.mark.slow

KILLS = {"sft": 8, "ppo": 8, "grpo": 6}
PATIENCE_S = 120

NOISE = """
import random

import numpy
import torch

from rlkit.plugin import hookimpl


def draw():
    return random.random() + numpy.random.random() + torch.rand(()).item()


def score(response):
    return float(draw() < 1.5) + len(response) % 2


class Noise:
    @hookimpl
    def step_finished(self, step, metrics):
        draw()
"""

COMMON = ("run.hooks=['noise.py:Noise']", "trainer.validate_every=3")
SFT_SETTINGS = (
    *COMMON,
    "data.validation=['data/sft.jsonl']",
    "sft.batch_size=24",
    "sft.steps=14",
    "sft.schedule=cosine",
    "sft.warmup_steps=5",
    "trainer.checkpoint_every=2",
)
RL_SETTINGS = (
    *COMMON,
    "reward.functions=['noise.py:score']",
    "reward.workers=2",
    "rollout.prompts_per_step=8",
    "rollout.max_response_tokens=12",
    "algorithm.mini_batch_samples=16",
    "actor.schedule=linear",
    "trainer.steps=6",
    "trainer.checkpoint_every=1",
)
PPO_SETTINGS = (
    *RL_SETTINGS,
    "critic.warmup_iterations=2",
    "reward.normalise=running",
    "algorithm.kl_in_reward=0.05",
    "algorithm.kl_target=0.1",
    "algorithm.kl_horizon=200",
    "reference.ema_decay=0.5",
)
GRPO_SETTINGS = (
    *RL_SETTINGS,
    "algorithm.advantage=grpo",
    "algorithm.sampling_rounds=3",
    "algorithm.kl_loss=0.01",
    "actor.lora.rank=4",
)


def command(arguments: tuple[str, ...], settings: tuple[str, ...]) -> list[str]:
    return [*arguments, *(part for text in settings for part in ("--set", text))]


COMMANDS = {
    "sft": command(("sft", "sft.toml"), SFT_SETTINGS),
    "ppo": command(("train", "ppo", "ppo.toml"), PPO_SETTINGS),
    "grpo": command(("train", "ppo", "ppo.toml"), GRPO_SETTINGS),
}


@dataclass
class Launcher:
    """The process that forks; see warm_launcher.py. One command at a time."""

    process: subprocess.Popen[str]
    folder: Path

    def start(self, arguments: list[str]) -> Child:
        assert self.process.stdin is not None
        output = self.folder / "output.txt"
        request = {"folder": str(self.folder), "arguments": arguments, "output": str(output)}
        self.process.stdin.write(json.dumps(request) + "\n")
        self.process.stdin.flush()
        return Child(self, int(self.line()), output)

    def line(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()


@dataclass
class Child:
    """One `rlkit` command."""

    launcher: Launcher
    pid: int
    output: Path
    code: int | None = None
    ended: threading.Event = field(default_factory=threading.Event)

    def __post_init__(self) -> None:
        self._waiting = threading.Thread(target=self._wait, daemon=True)
        self._waiting.start()

    def _wait(self) -> None:
        self.code = int(self.launcher.line())
        self.ended.set()

    def kill(self) -> bool:
        """False when it ended by itself before."""
        if not self.ended.is_set():
            os.kill(self.pid, signal.SIGKILL)  # still there: nobody but the launcher reaps it, and says so
        return self.end() == -signal.SIGKILL

    def end(self) -> int:
        assert self.ended.wait(PATIENCE_S), self.output.read_text()
        self._waiting.join()
        assert self.code in (0, -signal.SIGKILL), self.output.read_text()
        return self.code


@pytest.fixture(scope="module")
def launcher(quickstart: Path) -> Iterator[Launcher]:
    (quickstart / "noise.py").write_text(NOISE)
    process = subprocess.Popen(
        [sys.executable, str(Path(__file__).with_name("warm_launcher.py"))],
        env={**os.environ, "OMP_NUM_THREADS": "1", "RLKIT_OUTPUT": "plain"},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    launcher = Launcher(process, quickstart)
    assert launcher.line() == "ready"
    yield launcher
    process.kill()
    process.communicate()


def wait_for_half_a_checkpoint(run: Path, child: Child, number: int) -> None:
    """Until the run is writing its checkpoint number `number`, or has ended."""
    seen: set[str] = set()
    while len(seen) < number and not child.ended.is_set():
        try:
            seen |= {entry.name for entry in os.scandir(run / "checkpoints") if entry.name.endswith(".partial")}
        except FileNotFoundError:
            continue
        time.sleep(0.0005)


def kill_somewhere(child: Child, run: Path, chance: random.Random, *, aimed: bool, whole_s: float) -> bool:
    """Kill the command at a random moment, or in the middle of a checkpoint; False when it has ended before."""
    if aimed:
        wait_for_half_a_checkpoint(run, child, chance.randint(1, 3))
        child.ended.wait(chance.uniform(0, 0.03))
    else:
        child.ended.wait(chance.uniform(0, whole_s))
    return child.kill()


def events(run: Path) -> list[tuple[int, str, dict[str, float]]]:
    """The lines of metrics.jsonl, without times; a checkpoint is announced when it is whole, whenever that is."""
    entries = map(json.loads, (run / "metrics.jsonl").read_text().splitlines())
    found = [
        (entry["step"], entry["event"], {k: v for k, v in entry.get("metrics", {}).items() if repeats(k)})
        for entry in entries
    ]
    return sorted(found, key=lambda event: event[:2])


def content_of(folder: Path) -> dict[str, object]:
    """Every file. The library that writes safetensors puts a header's entries in another order each time."""
    found: dict[str, object] = {}
    for file in folder.rglob("*"):
        name, content = str(file.relative_to(folder)), file.read_bytes() if file.is_file() else b""
        if file.suffix == ".safetensors":
            length = int.from_bytes(content[:8], "little")
            found[name] = (json.loads(content[8 : 8 + length]), content[8 + length :])
        elif file.name != "manifest.json":
            found[name] = content
    return found


def result(run: Path) -> dict[str, Any]:
    """All that a run leaves behind, but for times."""
    checkpoints = sorted((run / "checkpoints").iterdir())
    files = {f"{folder.name}/{name}": content for folder in checkpoints for name, content in content_of(folder).items()}
    return {
        "events": events(run),
        **files,  # weights, moments, counters, cursor, random generators, exports
        "model": content_of(run / "model"),
        "rollouts": {file.name: parquet.read_table(file) for file in (run / "rollouts").glob("*")},
        "validation": {file.name: file.read_bytes() for file in (run / "validation").glob("*")},
        "best": json.loads((run / "run.json").read_text())["validation"],
    }


@pytest.mark.parametrize("kind", KILLS)
def test_a_run_killed_at_random_moments_ends_with_the_same_bits(launcher: Launcher, kind: str):
    chance = random.Random(20)
    runs = launcher.folder / "runs"
    started = time.monotonic()
    assert launcher.start([*COMMANDS[kind], "--name", f"{kind}-through"]).end() == 0
    whole_s = time.monotonic() - started
    expected = result(runs / f"{kind}-through")
    assert sum(name.endswith("state/random.json") for name in expected) >= 2
    kills = half_written = trials = 0
    enough, most = KILLS[kind] // 4, 4 * KILLS[kind]

    def goes_on() -> bool:
        """On a busy machine an aimed kill may come when the checkpoint is whole: then there are more of them."""
        return kills < (KILLS[kind] if half_written >= enough else most)

    while goes_on():
        trials += 1
        name = f"{kind}-killed-{trials}"
        while True:
            child = launcher.start([*COMMANDS[kind], "--name", name])
            if not goes_on():
                assert child.end() == 0
                break
            if not kill_somewhere(child, runs / name, chance, aimed=kills % 2 == 0, whole_s=whole_s):
                break
            kills += 1
            half_written += any((runs / name / "checkpoints").glob(".step_*.partial"))
        found = result(runs / name)
        differing = [part for part in expected.keys() | found.keys() if found.get(part) != expected.get(part)]
        assert not differing, f"after {kills} kills: {differing}"
    assert half_written >= enough, f"only {half_written} of {kills} kills hit a checkpoint that was being written"
