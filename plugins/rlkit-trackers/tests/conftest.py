"""A short run's events, played to a tracker through the relay that runs use."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from rlkit.plugin.hooks import HookRelay
from rlkit.plugin.hookspecs import RunInfo
from rlkit.testing.fakes import FakeEngine, fake_prompts
from rlkit.types import Reward, SamplingParams

CONFIG = {"run": {"name": "played"}, "actor": {"lr": 1e-3, "betas": [0.9, 0.99]}, "data": {"train": ["a.jsonl"]}}


def played_metrics(step: int) -> dict[str, float]:
    return {"reward/mean": step / 10, "actor/loss": -1.0 / step, "actor/grad_norm": float("nan")}


@pytest.fixture
def play(tmp_path: Path) -> Callable[..., HookRelay]:
    """Function: play steps `first + 1` to `last` of a run to the hook `name`; the relay knows what failed."""

    def run(
        name: str,
        *,
        first: int = 0,
        last: int = 4,
        status: str = "finished",
        metrics: Callable[[int], dict[str, float]] = played_metrics,
        **options: Any,
    ) -> HookRelay:
        folder = tmp_path / "runs" / "played"
        (folder / "validation").mkdir(parents=True, exist_ok=True)
        # What a tracker has not taken by then is lost, and a busy machine takes its time to import its package alone.
        relay = HookRelay.for_run([name], skip=("console", "jsonl"), options={name: {"flush_s": 120, **options}})
        info = RunInfo("ppo", "played", folder, CONFIG, total_steps=4, first_step=first)
        rollouts = FakeEngine().generate(fake_prompts(3), SamplingParams(max_tokens=2))
        rewards = [Reward(0.25), Reward(1.0), Reward(0.0, error="late")]
        relay.run_started(run=info)
        for step in range(first + 1, last + 1):
            relay.rollouts_ready(
                run=info, step=step, rollouts=rollouts, rewards=rewards, responses=[f"a{step}", "b|b", "c\nc"]
            )
            relay.step_finished(run=info, step=step, metrics=metrics(step))
        write_validation(folder, last)
        relay.validation_finished(run=info, step=last, metrics={"validation/score": 0.5})
        relay.checkpoint_saved(run=info, step=last, folder=folder / "checkpoints" / f"step_{last:06d}")
        relay.run_finished(run=info, status=status)
        return relay

    return run


def write_validation(folder: Path, step: int) -> None:
    """What a validation leaves in the run folder."""
    rows = [
        {
            "row_id": row,
            "messages": [{"role": "user", "content": f"question {row}"}],
            "reference": str(row),
            "completions": [{"text": f"answer {row}", "finish_reason": "stop"}],
        }
        for row in range(5)
    ]
    name = f"step_{step:06d}"
    (folder / "validation" / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    scores = {"row_id": list(range(5)), "scores": [[row / 4] for row in range(5)]}
    (folder / "validation" / f"{name}.json").write_text(json.dumps(scores))
