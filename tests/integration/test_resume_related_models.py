"""Models that are made of each other (a head on the actor, a reference that follows it) resume with the same bits."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest
from repeats import repeats

from rlkit.models.safetensors_io import read_headers

pytestmark = pytest.mark.slow

COMMON = (
    "train",
    "ppo",
    "ppo.toml",
    *("--reward", "graded.py:score"),
    *("--set", "rollout.prompts_per_step=16"),
    *("--set", "algorithm.mini_batch_samples=32"),
    *("--set", "trainer.validate_first=false"),
)
SHARED_AND_AVERAGED = (
    *("--set", "critic.shared_trunk=true"),
    *("--set", "critic.lr=1e-2"),
    *("--set", "critic.warmup_iterations=1"),
    *("--set", "algorithm.kl_in_reward=0.1"),
    *("--set", "reference.ema_decay=0.5"),
)
REFRESHED = (
    *("--set", "algorithm.kl_loss=0.1"),
    *("--set", "reference.refresh_every=3"),
)


def weights(run: Path) -> str:
    return hashlib.sha256((run / "model" / "model.safetensors").read_bytes()).hexdigest()


def metrics(run: Path) -> dict[int, dict[str, float]]:
    """By step, without what may differ between two equal runs."""
    found = {}
    for line in (run / "metrics.jsonl").read_text().splitlines():
        entry = json.loads(line)
        if entry["event"] == "step":
            found[entry["step"]] = {name: value for name, value in entry["metrics"].items() if repeats(name)}
    return found


def check_resumption(folder, rlkit_command, settings, name):
    """Five steps at once, and two and then three more: the same end. Returns both run folders."""
    whole, resumed = folder / "runs" / f"{name}-whole", folder / "runs" / f"{name}-resumed"
    rlkit_command(folder, *COMMON, *settings, "--name", whole.name, "--steps", "5")
    for steps in ("2", "5"):
        rlkit_command(folder, *COMMON, *settings, "--name", resumed.name, "--steps", steps)
    assert weights(resumed) == weights(whole)
    assert metrics(resumed) == metrics(whole)
    return whole, resumed


def test_a_shared_trunk_and_an_averaged_reference_resume_with_the_same_bits(quickstart, rlkit_command):
    whole, resumed = check_resumption(quickstart, rlkit_command, SHARED_AND_AVERAGED, "shared")
    saved = resumed / "checkpoints" / "step_000002" / "state"
    assert (saved / "reference").is_dir()
    assert not (saved / "critic").exists()
    assert "score.weight" not in read_headers(resumed / "model")
    steps = metrics(whole)
    assert "actor/loss" not in steps[1]  # only the head learned
    assert {"actor/loss", "critic/loss", "critic/explained_variance"} <= set(steps[2])
    assert steps[5]["reference/updates"] == 5


def test_a_refreshed_reference_resumes_with_the_same_bits_and_each_time_the_kl_starts_from_zero(
    quickstart, rlkit_command
):
    whole, _ = check_resumption(quickstart, rlkit_command, REFRESHED, "refreshed")
    kl = {step: values["actor/kl_to_reference"] for step, values in metrics(whole).items()}
    assert kl[1] == kl[4] == 0.0
    assert all(kl[step] > 0 for step in (2, 3, 5))
    assert [values["reference/updates"] for values in metrics(whole).values()] == [0, 0, 1, 1, 1]


def test_a_reference_that_the_run_began_without_is_missed_in_one_line(quickstart, rlkit_command):
    frozen = (*COMMON, "--set", "algorithm.kl_loss=0.1", "--name", "began-frozen")
    rlkit_command(quickstart, *frozen, "--steps", "1")
    assert not (quickstart / "runs/began-frozen/checkpoints/step_000001/state/reference").exists()
    refused = rlkit_command(quickstart, *frozen, "--steps", "2", "--set", "reference.ema_decay=0.5", code=6)
    assert "has no reference: the run began without one" in refused.stderr
    assert "Traceback" not in refused.stderr
