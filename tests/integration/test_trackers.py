"""Trackers in real training runs: what they get, and that a bad one costs a warning and nothing else."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

TRAIN = (
    "train", "ppo", "ppo.toml", "--steps", "3", "--set", "rollout.prompts_per_step=8",
    "--set", "algorithm.mini_batch_samples=16", "--set", "trainer.checkpoint_every=2",
    "--set", "trainer.validate_every=2",
)  # fmt: skip
FAKE = """
import sys, time
{at_import}

class Settings:
    def __init__(self, **given): pass

class Table(Settings): pass

class Run:
    summary = {{}}
    def define_metric(self, *names, **given): pass
    def log(self, metrics): {at_log}
    def finish(self, exit_code): {at_finish}

def setup(settings): pass

def login(prompt): return True

def init(**given):
    {at_init}
    return Run()
"""
HANG = "time.sleep(3600)"
BAD = {
    "raises at import": ({"at_import": "raise ImportError('half installed')"}, "ImportError: half installed"),
    "raises at init": ({"at_init": "raise ConnectionError('no route')"}, "switched off for this run: ConnectionError"),
    "exits at log": ({"at_log": "sys.exit(3)"}, "switched off for this run: SystemExit: 3"),
    "hangs at init": ({"at_init": HANG}, "had not taken everything 1 s after the end"),
    "hangs at finish": ({"at_finish": HANG}, "had not taken everything 1 s after the end"),
}


def weights(run: Path) -> str:
    return hashlib.sha256((run / "model" / "model.safetensors").read_bytes()).hexdigest()


@pytest.fixture(scope="module")
def without(quickstart, rlkit_command) -> Path:
    """The same run without a tracker."""
    rlkit_command(quickstart, *TRAIN, "--name", "untracked")
    return quickstart / "runs" / "untracked"


@pytest.mark.parametrize("case", BAD)
def test_training_ends_as_without_the_tracker(quickstart, rlkit_command, without, monkeypatch, tmp_path, case):
    misdeed, said = BAD[case]
    what = {"at_import": "", "at_init": "pass", "at_log": "pass", "at_finish": "pass", **misdeed}
    (tmp_path / "wandb.py").write_text(FAKE.format(**what))
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    name = case.replace(" ", "-")
    chosen = ("--set", "run.hooks=['wandb']", "--set", "run.hook_options.wandb.flush_s=1", "--name", name)
    done = rlkit_command(quickstart, *TRAIN, *chosen)
    warnings = [line for line in done.stderr.splitlines() if "tracker 'wandb'" in line]
    assert len(warnings) == 1 and said in warnings[0]
    assert "Traceback" not in done.stderr
    run = quickstart / "runs" / name
    assert weights(run) == weights(without)
    assert json.loads((run / "run.json").read_text())["status"] == "finished"


def test_tensorboard_gets_the_run_and_goes_on_with_it(quickstart, rlkit_command):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    chosen = ("--set", "run.hooks=['tensorboard']", "--name", "boarded")
    rlkit_command(quickstart, *TRAIN, *chosen)
    rlkit_command(quickstart, *TRAIN, *chosen, "--steps", "4")
    folder = quickstart / "runs" / "boarded"
    events = EventAccumulator(str(folder / "tensorboard"), size_guidance={"scalars": 0, "tensors": 0})
    events.Reload()
    recorded = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    means = {entry["step"]: entry["metrics"]["reward/mean"] for entry in recorded if entry["event"] == "step"}
    found = {event.step: event.value for event in events.Scalars("reward/mean")}
    assert found == pytest.approx(means) and list(found) == [1, 2, 3, 4]
    assert {event.step for event in events.Scalars("validation/score")} == {
        entry["step"] for entry in recorded if entry["event"] == "validation"
    }
    (table, *_) = events.Tensors("answers/validation/text_summary")
    assert "| question | answer | reference | score | finish_reason |" in table.tensor_proto.string_val[0].decode()


def test_options_are_refused_before_anything_loads(quickstart, rlkit_command):
    chosen = ("--set", "run.hooks=['tensorboard']", "--set", "run.hook_options.tensorboard.every=1")
    refused = rlkit_command(quickstart, *TRAIN, *chosen, code=2)
    assert refused.stderr.startswith("error: unknown key run.hook_options.tensorboard.every")
    assert refused.stderr.count("\n") == 1
