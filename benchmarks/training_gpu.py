"""Tokens per second, MFU and peak memory of rlkit's SFT and PPO on one device, beside the estimate of --dry-run.

    python benchmarks/training_gpu.py [--size 0.6b] [--backend fsdp] [--backend megatron] [--engine hf] [--device cuda]

Random weights of Qwen3's shapes, rows of --row-tokens tokens packed into micro-batches of as many, bfloat16 on a GPU. Each
backend runs in processes of its own, one after the other; nothing else should use the device. `--device cpu --size tiny
--row-tokens 256` shows on any machine that the script works. The result goes to results/training_gpu.json beside this file.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from turns import versions

RESULTS = Path(__file__).parent / "results" / "training_gpu.json"
VOCABULARY = 151_936
WARM_UP = 2
SHOWN = ("throughput/", "perf/", "time/", "memory/device_peak_bytes", "memory/process_peak_bytes")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])  # type: ignore[union-attr]
    parser.add_argument("--size", default="0.6b", help="of rlkit's Qwen3 family")
    parser.add_argument("--backend", action="append", help="actor backend; may be repeated (fsdp)")
    parser.add_argument("--engine", default="hf", help="rollout engine of the PPO part")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--row-tokens", type=int, default=8192, help="of an SFT row, and of a micro-batch")
    parser.add_argument("--rows", type=int, default=4, help="of an SFT step")
    parser.add_argument("--response-tokens", type=int, default=512, help="at most, of a PPO answer")
    parser.add_argument("--prompts", type=int, default=32, help="of a PPO step, four answers each")
    parser.add_argument("--steps", type=int, default=10, help="counted, after two to warm up")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        make_inputs(folder, arguments)
        result = {
            "arguments": vars(arguments),
            "device": device_name(arguments.device),
            "versions": versions("rlkit-llm", "torch", "transformers"),
            "backends": {
                backend: {
                    "sft": measure(folder, f"sft-{backend}", sft(arguments, backend)),
                    "ppo": measure(folder, f"ppo-{backend}", ppo(arguments, backend)),
                }
                for backend in arguments.backend or ["fsdp"]
            },
        }
    RESULTS.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    print(json.dumps(result["backends"], indent=2))


def make_inputs(folder: Path, arguments: argparse.Namespace) -> None:
    """A model, conversations of just under `row_tokens` bytes, which are its tokens, and short prompts."""
    made = ("--family", "qwen3", "--size", arguments.size, "--tokenizer", "byte")
    context = max(2 * arguments.row_tokens, 2048)
    large = ("--set", f"vocab_size={VOCABULARY}", "--set", f"max_position_embeddings={context}")
    rlkit(folder, "models", "create", "model", *made, *large)
    letters = "the quick brown fox jumps over the lazy dog. " * arguments.row_tokens
    rows = arguments.rows * (arguments.steps + WARM_UP)
    with (folder / "conversations.jsonl").open("w", encoding="utf-8") as file:
        for row in range(rows):
            answer = letters[row % 44 :][: arguments.row_tokens - 64]
            talk = [{"role": "user", "content": "go on"}, {"role": "assistant", "content": answer}]
            file.write(json.dumps({"messages": talk}) + "\n")
    with (folder / "prompts.jsonl").open("w", encoding="utf-8") as file:
        for row in range(4 * arguments.prompts):
            file.write(json.dumps({"prompt": f"question {row}: {letters[:100]}", "answer": str(row)}) + "\n")


def common(arguments: argparse.Namespace, backend: str, role: str) -> list[str]:
    dtype = "float32" if arguments.device == "cpu" else "bfloat16"
    settings = {
        "model.dtype": dtype,
        f"{role}.backend": backend,
        f"{role}.micro_batch_tokens": arguments.row_tokens,
        "trainer.checkpoint_every": 0,
    }
    return ["--device", arguments.device, "--model", "model", *keys(settings)]


def sft(arguments: argparse.Namespace, backend: str) -> list[str]:
    settings = {"data.max_length": arguments.row_tokens}
    rows = ("--data", "conversations.jsonl", "--batch-size", str(arguments.rows))
    steps = ("--steps", str(arguments.steps + WARM_UP))
    return ["sft", *common(arguments, backend, "sft"), *rows, *steps, *keys(settings)]


def ppo(arguments: argparse.Namespace, backend: str) -> list[str]:
    """GRPO: a policy, no critic, no reference."""
    settings = {
        "rollout.engine": arguments.engine,
        "rollout.prompts_per_step": arguments.prompts,
        "rollout.samples_per_prompt": 4,
        "rollout.max_response_tokens": arguments.response_tokens,
        "algorithm.advantage": "grpo",
        "algorithm.mini_batch_samples": 4 * arguments.prompts,
    }
    data = ("--data", "prompts.jsonl", "--reward", "length", "--steps", str(arguments.steps + WARM_UP))
    return ["train", "ppo", *common(arguments, backend, "actor"), *data, *keys(settings)]


def keys(settings: dict[str, Any]) -> list[str]:
    return [part for key, value in settings.items() for part in ("--set", f"{key}={value}")]


def measure(folder: Path, run: str, command: Sequence[str]) -> dict[str, Any]:
    """Medians over the counted steps, the highest peak, and what --dry-run had said of it."""
    planned = json.loads(rlkit(folder, *command, "--name", run, "--dry-run", "--json"))
    rlkit(folder, *command, "--name", run)
    lines = map(json.loads, (folder / "runs" / run / "metrics.jsonl").read_text(encoding="utf-8").splitlines())
    steps = [line["metrics"] for line in lines if line["event"] == "step"][WARM_UP:]
    names = sorted({name for step in steps for name in step if name.startswith(SHOWN)})
    found = {name: statistics.median(step[name] for step in steps if name in step) for name in names}
    peak = max(found.get("memory/device_peak_bytes", 0.0), max(s.get("memory/device_peak_bytes", 0.0) for s in steps))
    return {
        "steps": len(steps),
        "medians": found,
        "estimated_peak_bytes": planned["peak_bytes"],
        "peak_over_estimate": round(peak / planned["peak_bytes"], 3) if peak else None,
    }


def rlkit(folder: Path, *arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "rlkit", *arguments], cwd=folder, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise SystemExit(f"rlkit {' '.join(arguments)} ended with {done.returncode}:\n{done.stdout}\n{done.stderr}")
    return done.stdout


def device_name(device: str) -> str:
    import torch

    return torch.cuda.get_device_name(device) if device.startswith("cuda") else "CPU"


if __name__ == "__main__":
    main()
