"""Validation and the best checkpoint in a real run of the quickstart model."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.slow

REWARD = """
def score(response):
    return float(len(response) % 2 == 0)

score.extract_answer = lambda response: str(len(response) % 3)
"""  # right or wrong by chance: the scores go up and down
SETTINGS = {
    "rollout.prompts_per_step": "16",
    "algorithm.mini_batch_samples": "32",
    "actor.lr": "3e-4",
    "trainer.validate_every": "2",
    "trainer.keep_checkpoints": "1",
    "validation.samples_per_prompt": "4",
    "validation.temperature": "1.0",
}


@pytest.fixture(scope="module")
def run(quickstart: Path, rlkit_command) -> tuple[Path, str]:
    """A finished run that ends with its best model, and what it said."""
    (quickstart / "even.py").write_text(REWARD)
    changes = [part for key, value in SETTINGS.items() for part in ("--set", f"{key}={value}")]
    arguments = ("train", "ppo", "ppo.toml", "--name", "best", "--steps", "8", "--set", "trainer.export=best", *changes)
    arguments += ("--reward", "even.py:score")
    result = rlkit_command(quickstart, *arguments)
    return quickstart / "runs" / "best", result.stdout + result.stderr


def validations(folder: Path) -> dict[int, dict[str, float]]:
    entries = map(json.loads, (folder / "metrics.jsonl").read_text().splitlines())
    return {entry["step"]: entry["metrics"] for entry in entries if entry["event"] == "validation"}


def best(folder: Path) -> dict[str, Any]:
    described: dict[str, Any] = json.loads((folder / "run.json").read_text())["validation"]["best"]
    return described


def test_the_best_step_is_the_one_with_the_highest_score_and_its_checkpoint_is_kept(run):
    folder, _ = run
    scores = {step: metrics["validation/score"] for step, metrics in validations(folder).items() if step}
    assert best(folder)["step"] == max(scores, key=lambda step: (scores[step], -step))
    kept = {int(path.name.removeprefix("step_")) for path in (folder / "checkpoints").iterdir()}
    assert kept == {best(folder)["step"], 8}
    content = json.loads((folder / "checkpoints" / f"step_{best(folder)['step']:06d}" / "best.json").read_text())
    assert content["best"] == best(folder)


def test_the_best_model_is_exported_and_one_line_says_which_it_is(run):
    folder, said = run
    checkpoint = folder / "checkpoints" / f"step_{best(folder)['step']:06d}" / "model"
    exported, saved = (path / "model.safetensors" for path in (folder / "model", checkpoint))
    assert exported.read_bytes() == saved.read_bytes()
    line = rf"best validation {best(folder)['score']:.3f} \([\d.]+ to [\d.]+\) at step {best(folder)['step']}"
    assert re.search(line, said)
    assert re.search(line, (folder / "log.txt").read_text())


def test_rlkit_eval_gives_the_numbers_of_the_validation(run, quickstart, rlkit_command):
    folder, _ = run
    answers = folder / "validation" / "step_000008.jsonl"
    result = json.loads(rlkit_command(quickstart, "eval", str(answers), "--reward", "even.py:score", "--json").stdout)
    (summary,) = result["files"][0]["sources"]
    metrics = validations(folder)[8]
    for name, interval in (
        ("score", summary["score"]),
        ("pass_at_4", summary["pass_at"]["4"]),
        ("maj_at_4", summary["majority_at"]["4"]),
    ):
        found = [metrics[f"validation/{name}{end}"] for end in ("", "_low", "_high")]
        assert found == [interval["mean"], interval["low"], interval["high"]]
    assert metrics["validation/length_mean"] == summary["length"]
    assert metrics["validation/truncated_fraction"] == summary["truncated"]


@pytest.fixture(scope="module")
def fine_tune(quickstart: Path, rlkit_command) -> Callable[[], str]:
    """Function: a supervised run whose validation data say what the training data never do; what it said."""
    nonsense = [{"role": "user", "content": "1+1=?"}, {"role": "assistant", "content": "??? ? ?? ????"}]
    (quickstart / "nonsense.jsonl").write_text(json.dumps({"messages": nonsense}) + "\n")
    settings = {
        "trainer.validate_every": "1",
        "trainer.keep_checkpoints": "1",
        "trainer.export": "best",
    }
    changes = [part for key, value in settings.items() for part in ("--set", f"{key}={value}")]
    data = ("--model", "runs/sft/model", "--validation", "nonsense.jsonl", "--steps", "9")

    def run() -> str:
        result = rlkit_command(quickstart, "sft", "sft.toml", "--name", "tuned", *data, *changes)
        return result.stdout + result.stderr

    return run


@pytest.fixture(scope="module")
def tuned(quickstart: Path, fine_tune) -> tuple[Path, str]:
    """A finished run of `fine_tune`, and what it said."""
    return quickstart / "runs" / "tuned", fine_tune()


def test_fine_tuning_keeps_and_exports_the_model_of_the_lowest_validation_loss(tuned):
    folder, said = tuned
    losses = {step: metrics["sft/validation_loss"] for step, metrics in validations(folder).items()}
    found = best(folder)
    assert found == {"step": min(losses, key=lambda step: (losses[step], step)), "loss": min(losses.values())}
    assert found["step"] != 9
    checkpoint = folder / "checkpoints" / f"step_{found['step']:06d}"
    assert {path.name for path in (folder / "checkpoints").iterdir()} == {checkpoint.name, "step_000009"}
    assert json.loads((checkpoint / "best.json").read_text())["best"] == found
    exported, saved = (path / "model.safetensors" for path in (folder / "model", checkpoint / "model"))
    assert exported.read_bytes() == saved.read_bytes()
    assert f"best validation loss {found['loss']:.4f} at step {found['step']}; the last, at step 9, has" in said


def test_a_supervised_run_that_was_killed_ends_with_the_same_best(tuned, fine_tune):
    """Killed after its last checkpoint, before the export, and begun anew from there."""
    folder, _ = tuned
    before = (folder / "model" / "model.safetensors").read_bytes()
    described = json.loads((folder / "run.json").read_text())
    (folder / "run.json").write_text(json.dumps({**described, "status": "running", "validation": {}}))
    (folder / "model" / "model.safetensors").unlink()
    fine_tune()
    assert best(folder) == described["validation"]["best"]
    assert (folder / "model" / "model.safetensors").read_bytes() == before
