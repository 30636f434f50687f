"""A run that is killed, or stopped by Ctrl-C, ends with the same bits as one that ran through."""

from __future__ import annotations

import hashlib
import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from killing import HELD, HOLD, held
from repeats import repeats

pytestmark = pytest.mark.slow

PPO = (
    "train",
    "ppo",
    "ppo.toml",
    "--reward",
    "graded.py:score",
    "--steps",
    "8",
    "--set",
    "rollout.prompts_per_step=16",
    "--set",
    "algorithm.mini_batch_samples=32",
    "--set",
    "algorithm.kl_in_reward=0.01",
    "--set",
    "reward.normalise=running",
    "--set",
    "actor.schedule=cosine",
    "--set",
    "trainer.checkpoint_every=2",
    "--set",
    "trainer.validate_every=3",
    *HELD,
)
SFT = ("sft", "sft.toml", "--set", "sft.epochs=30", "--set", "trainer.checkpoint_every=5", *HELD)


@pytest.fixture(scope="module", autouse=True)
def hook(quickstart: Path) -> None:
    (quickstart / "hold.py").write_text(HOLD)


def weights(run: Path) -> str:
    return hashlib.sha256((run / "model" / "model.safetensors").read_bytes()).hexdigest()


def events(run: Path) -> list[tuple[str, int, dict[str, float]]]:
    """Every line of metrics.jsonl, without what may differ between two equal runs."""
    found = []
    for line in (run / "metrics.jsonl").read_text().splitlines():
        entry = json.loads(line)
        metrics = {name: value for name, value in (entry.get("metrics") or {}).items() if repeats(name)}
        if entry["event"] in ("step", "validation"):
            found.append((entry["event"], entry["step"], metrics))
    return found


def kept(run: Path) -> tuple[list[str], object]:
    """The checkpoints that are left, and which validation was the best."""
    described = json.loads((run / "run.json").read_text())
    return sorted(path.name for path in (run / "checkpoints").iterdir()), described.get("validation")


def start(folder: Path, *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "rlkit", *arguments],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def wait_for(path: Path, process: subprocess.Popen[str]) -> None:
    """Until `path` exists; fails when the run ends before."""
    deadline = time.monotonic() + 120
    while not path.exists():
        assert process.poll() is None, process.communicate()[0]
        assert time.monotonic() < deadline, f"{path} never came"
        time.sleep(0.005)


@pytest.mark.parametrize(
    ("arguments", "first_checkpoint", "stop_at"), [(PPO, "step_000002", 3), (SFT, "step_000005", 7)], ids=["ppo", "sft"]
)
class TestResume:
    def test_a_killed_run_ends_with_the_same_bits(
        self, quickstart, rlkit_command, arguments, first_checkpoint, stop_at
    ):
        kind = arguments[1] if arguments[0] == "train" else arguments[0]
        whole, killed = quickstart / "runs" / f"{kind}-whole", quickstart / "runs" / f"{kind}-killed-once"
        rlkit_command(quickstart, *arguments, "--name", whole.name)
        with held(quickstart, stop_at):
            process = start(quickstart, *arguments, "--name", killed.name)
            wait_for(killed / "checkpoints" / first_checkpoint, process)
            process.send_signal(signal.SIGKILL)
            process.communicate()
        assert json.loads((killed / "run.json").read_text())["status"] == "running"
        rlkit_command(quickstart, *arguments, "--name", killed.name)
        assert weights(killed) == weights(whole)
        assert events(killed) == events(whole)
        assert kept(killed) == kept(whole)
        assert json.loads((killed / "run.json").read_text())["status"] == "finished"

    def test_control_c_saves_the_state_and_the_run_goes_on(
        self, quickstart, rlkit_command, arguments, first_checkpoint, stop_at
    ):
        kind = arguments[1] if arguments[0] == "train" else arguments[0]
        whole, stopped = quickstart / "runs" / f"{kind}-whole", quickstart / "runs" / f"{kind}-stopped"
        with held(quickstart, stop_at):
            process = start(quickstart, *arguments, "--name", stopped.name)
            wait_for(stopped / "checkpoints" / first_checkpoint, process)
            process.send_signal(signal.SIGINT)
        output = process.communicate()[0]
        assert process.returncode == 130, output
        assert "run the same command again" in output
        assert "Traceback" not in output
        described = json.loads((stopped / "run.json").read_text())
        assert described["status"] == "interrupted"
        rlkit_command(quickstart, *arguments, "--name", stopped.name)
        assert weights(stopped) == weights(whole)
        assert events(stopped) == events(whole)
        assert kept(stopped) == kept(whole)


def test_a_finished_run_is_not_run_again(quickstart, rlkit_command):
    rlkit_command(quickstart, "sft", "sft.toml", "--name", "once", "--set", "sft.epochs=1")
    before = weights(quickstart / "runs" / "once")
    again = rlkit_command(quickstart, "sft", "sft.toml", "--name", "once", "--set", "sft.epochs=1")
    assert "is complete" in again.stdout
    assert weights(quickstart / "runs" / "once") == before


def test_a_damaged_checkpoint_is_passed_over(quickstart, rlkit_command):
    arguments = (*SFT, "--name", "damaged")
    folder = quickstart / "runs" / "damaged" / "checkpoints"
    with held(quickstart, 12):
        process = start(quickstart, *arguments)
        wait_for(folder / "step_000010", process)
        process.send_signal(signal.SIGKILL)
        process.communicate()
    newest = sorted(path for path in folder.iterdir() if path.name.startswith("step_"))[-1]
    (state,) = (newest / "state" / "model" / "optimizer").iterdir()
    content = bytearray(state.read_bytes())
    content[-1] ^= 1
    state.write_bytes(content)
    result = rlkit_command(quickstart, *arguments)
    assert "is damaged" in result.stdout + result.stderr
    assert json.loads((quickstart / "runs" / "damaged" / "run.json").read_text())["status"] == "finished"


def test_the_folder_of_another_kind_of_run_is_refused(quickstart, rlkit_command):
    rlkit_command(quickstart, "sft", "sft.toml", "--name", "mine", "--set", "sft.epochs=1")
    refused = rlkit_command(quickstart, *PPO, "--name", "mine", code=2)
    assert "holds a run of kind sft" in refused.stderr
