"""A run folder of any size that looks like one of a real training: nothing is trained, the numbers are drawn."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from pyarrow import parquet

NAMES = ("Ann", "Ben", "Carla", "Dmitri", "Eve", "Farid", "Grace", "Hugo")
THINGS = ("apples", "marbles", "books", "stamps", "tickets", "pencils")
VOCABULARY = 400
GROUP = 4
START = 1_767_261_600.0


def make_large_run(
    folder: Path, *, steps: int = 1_000, answers: int = 20, tokens: int = 60, seed: int = 0, **run: Any
) -> Path:
    """Write run.json, metrics.jsonl, log.txt and `steps` rollouts files of `answers` answers of about `tokens` tokens."""
    generator = np.random.default_rng(seed)
    (folder / "rollouts").mkdir(parents=True)
    described = {
        "kind": "ppo",
        "name": folder.name,
        "status": "finished",
        "error": "",
        "started": "2026-01-01T10:00:00+00:00",
        "ended": "2026-01-01T13:41:30+00:00",
        "resumed": [],
        "config": {
            "run": {"name": folder.name, "seed": seed, "device": "cuda"},
            "model": {"path": "models/qwen3-1.7b-sft", "tokenizer": ""},
            "actor": {"lr": 1e-6 * (1 + seed), "grad_clip": 1.0, "epochs": 1},
            "algorithm": {"advantage": "grpo", "kl_loss": 0.001, "clip_low": 0.2, "clip_high": 0.28},
            "trainer": {"steps": steps, "prompts": answers // GROUP, "samples": GROUP},
        },
        "origins": {"actor.lr": "ppo.toml:7", "run.seed": "--seed", "trainer.steps": "ppo.toml:12"},
        "versions": {"python": "3.11.2", "torch": "2.13.0", "transformers": "5.19.0"},
        "plugins": [{"kind": "actor_backend", "name": "fsdp", "distribution": "rlkit-fsdp", "version": "0.1.0"}],
        "command": ["rlkit", "train", "ppo", "ppo.toml"],
        **run,
    }
    (folder / "run.json").write_text(json.dumps(described))
    (folder / "log.txt").write_text(
        "2026-01-01 10:00:00,000 INFO ppo run, step 0\n"
        + "2026-01-01 11:02:03,120 WARNING reward 'http' failed on row 17: connection reset; tried again\n" * 3
        + "2026-01-01 12:00:00,000 WARNING 4 prompts are longer than 512 tokens and were left out\n"
    )
    with (folder / "metrics.jsonl").open("w") as file:
        for event in _events(steps, generator):
            file.write(json.dumps(event) + "\n")
    for step in range(1, steps + 1):
        table = _rollouts(step, steps, answers, tokens, generator)
        parquet.write_table(table, folder / "rollouts" / f"step_{step:06d}.parquet", compression="zstd")
    return folder


def progress(step: int, steps: int) -> float:
    """From 0 to nearly 1, fast at first."""
    return 1 - math.exp(-3.2 * step / steps)


def _events(steps: int, generator: np.random.Generator) -> Any:
    time = START
    for step in range(0, steps + 1):
        if step:
            values = _metrics(step, steps, generator)
            time += values["time/step_s"]
            yield {"event": "step", "step": step, "time": round(time, 3), "metrics": values}
        if step % max(1, steps // 10) == 0:
            time += 20.0
            score = 0.31 + 0.32 * progress(step, steps) + generator.normal(0, 0.008)
            metrics = {"score": score, "score_low": score - 0.027, "score_high": score + 0.026, "prompts": 1319.0}
            metrics |= {"pass_at_4": min(0.97, score + 0.17), "maj_at_4": min(0.97, score + 0.05), "length_mean": 180.0}
            metrics |= {"gsm8k/score": score + 0.06, "math/score": score - 0.11}
            yield {
                "event": "validation",
                "step": step,
                "time": round(time, 3),
                "metrics": {f"validation/{name}": value for name, value in metrics.items()},
            }


def _metrics(step: int, steps: int, generator: np.random.Generator) -> dict[str, float]:
    way = progress(step, steps)

    def noisy(value: float, share: float) -> float:
        return float(value * (1 + generator.normal(0, share)))

    reward = min(0.99, max(0.0, 0.35 + 0.4 * way + generator.normal(0, 0.05)))
    stages = {
        "rollout": 6.1,
        "reward": 0.4,
        "log_probs": 1.9,
        "advantages": 0.05,
        "update_actor": 4.0,
        "weight_sync": 0.5,
    }
    seconds = {f"time/{name}_s": abs(noisy(value, 0.07)) for name, value in stages.items()}
    return {
        "reward/mean": reward,
        "reward/std": 0.42,
        "reward/min": -0.2,
        "reward/max": 1.2,
        "reward/part/correct": reward * 0.9,
        "reward/part/format": 0.6 + 0.39 * way,
        "reward/equal_group_fraction": 0.2 + 0.3 * way,
        "reward/errors": float(step % 97 == 0),
        "response/length_mean": noisy(160 + 90 * way, 0.05),
        "response/length_max": 512.0,
        "response/length_min": abs(noisy(30, 0.3)),
        "response/truncated_fraction": abs(noisy(0.08 * (1 - way), 0.4)),
        "actor/kl_to_reference": abs(noisy(0.09 * way, 0.12)),
        "actor/kl_to_old": abs(generator.normal(0, 2e-4)),
        "actor/entropy": noisy(0.62 - 0.35 * way, 0.04),
        "actor/clip_fraction": abs(noisy(0.012, 0.3)),
        "actor/grad_norm": abs(noisy(0.21, 0.25)),
        "actor/policy_loss": float(generator.normal(0, 0.02)),
        "actor/lr": 1e-6 * min(1.0, step / 20) * (1 - 0.9 * step / steps),
        "advantage/mean": float(generator.normal(0, 0.01)),
        "advantage/std": noisy(0.97, 0.01),
        "rollout/log_prob_difference_mean": abs(noisy(0.004, 0.1)),
        "rollout/log_prob_difference_max": abs(noisy(0.4, 0.5)),
        "rollout/correlation": 1 - abs(generator.normal(0, 4e-4)),
        "rollout/kl": float(generator.normal(0, 1e-4)),
        "rollout/tokens_per_s": noisy(5200, 0.08),
        "throughput/tokens_per_s": noisy(2600, 0.05),
        "perf/mfu": noisy(0.31, 0.04),
        "memory/device_peak_bytes": 61.3 * 2**30,
        "memory/process_bytes": 9.1 * 2**30 + 1e6 * step,
        **seconds,
        "time/step_s": sum(seconds.values()) + 0.3,
    }


def _rollouts(step: int, steps: int, answers: int, tokens: int, generator: np.random.Generator) -> pa.Table:
    way = progress(step, steps)
    rows: list[Mapping[str, Any]] = [_answer(step, at, way, generator) for at in range(answers)]
    lengths = generator.integers(tokens // 2, tokens + tokens // 2, answers)
    total = int(lengths.sum())
    trainer = -generator.exponential(0.35, total)
    scores = np.asarray([row["score"] for row in rows])
    mask = generator.random(total) > 0.02
    advantages = np.repeat((scores - scores.mean()) / (scores.std() + 1e-6), lengths) * mask
    offsets = np.concatenate([[0], np.cumsum(lengths)])

    def ragged(values: np.ndarray, kind: Any) -> Any:
        return pa.LargeListArray.from_arrays(pa.array(offsets, pa.int64()), pa.array(values).cast(kind))

    engine = trainer + generator.standard_t(2, total) * 0.003
    columns: dict[str, Any] = {name: pa.array([row[name] for row in rows]) for name in rows[0]}
    columns |= {
        "response_ids": ragged(generator.integers(1, VOCABULARY, total), pa.int32()),
        "response_mask": ragged(np.ones(total, dtype=bool), pa.bool_()),
        "loss_mask": ragged(mask, pa.bool_()),
        "rollout_log_probs": ragged(np.minimum(engine, 0.0), pa.float32()),
        "old_log_probs": ragged(trainer, pa.float32()),
        "ref_log_probs": ragged(trainer + generator.normal(0, 0.2 * way + 1e-3, total), pa.float32()),
        "advantages": ragged(advantages, pa.float32()),
        "entropies": ragged(generator.exponential(0.5, total), pa.float32()),
    }
    return pa.table(columns)


def _answer(step: int, at: int, way: float, generator: np.random.Generator) -> dict[str, Any]:
    task = np.random.default_rng((step * 31 + at // GROUP) % 700)
    a, b, c = (int(task.integers(3, 60)) for _ in range(3))
    name, thing = NAMES[int(task.integers(len(NAMES)))], THINGS[int(task.integers(len(THINGS)))]
    right = bool(generator.random() < 0.35 + 0.4 * way)
    tidy = bool(generator.random() < 0.6 + 0.39 * way)
    result = a * b + c if right else a * b - c
    steps = [
        f"{name} starts with {a} boxes of {b} {thing}, so that is {a} * {b} = {a * b} {thing}.",
        f"Then {name} {'gets' if right else 'loses'} {c} {thing}: {a * b} {'+' if right else '-'} {c} = {result}.",
        "Let me check that again: the numbers of the question are all used." if generator.random() < 0.4 else "",
    ]
    end = f"\n\\boxed{{{result}}}" if tidy else f"\nThe answer is {result}"
    parts = {"correct": float(right), "format": 0.2 if tidy else -0.2}
    return {
        "row_id": (step * 31 + at // GROUP) % 700,
        "group_id": at // GROUP,
        "data_source": "gsm8k" if a % 3 else "math",
        "question": f"{name} has {a} boxes with {b} {thing} each and is given {c} more. How many {thing} are there now?",
        "reference": json.dumps(str(a * b + c)),
        "response": "\n".join(line for line in steps if line) + end,
        "finish_reason": "length" if generator.random() < 0.08 * (1 - way) else "stop",
        "score": sum(parts.values()),
        "parts": json.dumps(parts),
        "error": "judge not reached" if step % 97 == 0 and at == 0 else None,
    }
