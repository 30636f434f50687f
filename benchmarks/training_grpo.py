"""A whole GRPO step against TRL's: answers, rewards, update. Speed and memory only; says nothing about quality.

    python benchmarks/training_grpo.py --data gsm8k_train.jsonl [--rounds 10] [--threads 2] [--answer-tokens 64]

Both sides let the 256-wide Qwen3 (6 layers, 4.8 M parameters, random weights, bytes as tokens) answer 8 questions of GSM8K
8 times, give the answers the same reward and make one optimizer step on all 64: float32, AdamW, temperature 1, no reference.
TRL (1.16 was measured) answers with transformers' `generate`, rlkit with its `hf` engine. They do their steps in turns
(turns.py). The result goes to results/training_grpo_TOKENS.json beside this file.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import statistics
import sys
import tempfile
from pathlib import Path
from typing import Any

from turns import Turns, paired_ratio, take_turns, versions

RESULTS = Path(__file__).parent / "results"
PROMPTS, SAMPLES, LR = 8, 8, 1e-5
LONGEST_QUESTION = 400
"""Bytes; with the chat template around them."""

TRL_SETTINGS: dict[str, dict[str, Any]] = {
    "default": {"per_device_train_batch_size": SAMPLES, "gradient_accumulation_steps": PROMPTS},
    "no_checkpointing": {
        "per_device_train_batch_size": SAMPLES,
        "gradient_accumulation_steps": PROMPTS,
        "gradient_checkpointing": False,
    },
    "one_batch": {"per_device_train_batch_size": PROMPTS * SAMPLES, "gradient_checkpointing": False},
}
"""`default` is TRL's batch of 8, as often as it takes for 64 answers, with gradient checkpointing."""

REWARD = '''
def score(response: str) -> float:
    """Lower-case letters, as a share of the answer."""
    return sum("a" <= letter <= "z" for letter in response) / max(1, len(response))
'''


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])  # type: ignore[union-attr]
    parser.add_argument("--data", required=True, help="GSM8K's training questions and answers, as JSONL")
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--answer-tokens", type=int, default=64)
    parser.add_argument("--settings", default=",".join(TRL_SETTINGS), help="which of TRL's settings to compare with")
    parser.add_argument("--side", help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.side == "rlkit":
        train_with_rlkit(arguments.folder, arguments.threads, arguments.answer_tokens)
    elif arguments.side:
        train_with_trl(arguments.folder, TRL_SETTINGS[arguments.side], arguments.threads, arguments.answer_tokens)
    else:
        referee(arguments)


def referee(arguments: argparse.Namespace) -> None:
    """Prepares model and prompts, starts the sides and writes the result."""
    settings = arguments.settings.split(",")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        prepare(folder, arguments.data)
        options = ["--data", arguments.data, "--folder", name, "--threads", str(arguments.threads)]
        options += ["--answer-tokens", str(arguments.answer_tokens)]
        command = [sys.executable, __file__, *options, "--side"]
        commands = {side: [*command, side] for side in ("rlkit", *settings)}
        rlkit, *others = take_turns(commands, folder, rounds=arguments.rounds, threads=arguments.threads)
    seconds = [step["seconds"] for step in rlkit["steps"]]
    result = {
        "trl": {
            other["name"]: {
                **summary(other),
                "speedup_of_rlkit": paired_ratio([step["seconds"] for step in other["steps"]], seconds),
                "cpu_time_to_rlkit": paired_ratio(
                    *([step["cpu_seconds"] for step in side["steps"]] for side in (other, rlkit))
                ),
                "peak_memory_to_rlkit": round(other["peak_bytes"] / rlkit["peak_bytes"], 2),
            }
            for other in others
        },
        "rlkit": {**summary(rlkit), "stage_seconds": stages(rlkit)},
        "workload": {"prompts": PROMPTS, "samples": SAMPLES, "answer_tokens": arguments.answer_tokens},
        "threads": arguments.threads,
        "rounds": arguments.rounds,
        "trl_settings": {name: TRL_SETTINGS[name] for name in settings},
        "load_average": [round(value, 1) for value in os.getloadavg()],
        "versions": versions("rlkit-llm", "trl", "torch", "transformers", "accelerate"),
    }
    print(json.dumps(result, indent=2))
    RESULTS.mkdir(exist_ok=True)
    target = RESULTS / f"training_grpo_{arguments.answer_tokens}.json"
    target.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")


def summary(side: dict[str, Any]) -> dict[str, Any]:
    return {
        "median_seconds": round(statistics.median(step["seconds"] for step in side["steps"]), 2),
        "mean_answer_tokens": round(statistics.mean(step["answer_tokens"] for step in side["steps"]), 1),
        "peak_mib": round(side["peak_bytes"] / 2**20),
        "all_seconds": [round(step["seconds"], 2) for step in side["steps"]],
    }


def stages(side: dict[str, Any]) -> dict[str, float]:
    """Median seconds of each stage of rlkit's step."""
    names = [name for name in side["steps"][0] if name.startswith("time/")]
    return {name: round(statistics.median(step[name] for step in side["steps"]), 3) for name in names}


def prepare(folder: Path, data: str) -> None:
    """Model, questions and reward."""
    from rlkit.models.create import create_model

    create_model(folder / "model", family="qwen3", size="small", tokenizer="byte")
    lines = Path(data).read_text(encoding="utf-8").splitlines()
    random.Random(0).shuffle(lines)
    questions = [line for line in lines if len(json.loads(line)["question"].encode()) <= LONGEST_QUESTION]
    (folder / "rows.jsonl").write_text("\n".join(questions[:800]) + "\n", encoding="utf-8")
    (folder / "reward.py").write_text(REWARD, encoding="utf-8")


def train_with_rlkit(folder: Path, threads: int, answer_tokens: int) -> None:
    """`rlkit train ppo`, with a turn after each step."""
    from rlkit.cluster.environment import set_environment_guards

    set_environment_guards()  # as the command does, before torch is imported

    from rlkit.config.load import load_config
    from rlkit.pipelines.ppo import run_ppo
    from rlkit.trainers.run_events import RunEvents

    turns, finish = Turns(), RunEvents.step_finished

    def step_finished(self: RunEvents, step: int, metrics: Any) -> None:
        finish(self, step, metrics)
        times = {name: value for name, value in metrics.items() if name.startswith("time/")}
        turns.finished(answer_tokens=metrics["response/length_mean"], **times)

    RunEvents.step_finished = step_finished  # type: ignore[method-assign]
    flags = {
        "run.output": str(folder / "runs"),
        "run.device": "cpu",
        "run.threads": threads,
        "model.path": str(folder / "model"),
        "data.train": [str(folder / "rows.jsonl")],
        "data.shuffle": False,
        "rollout.prompts_per_step": PROMPTS,
        "rollout.samples_per_prompt": SAMPLES,
        "rollout.max_response_tokens": answer_tokens,
        "reward.functions": [f"{folder / 'reward.py'}:score"],
        "algorithm.advantage": "grpo",
        "algorithm.mini_batch_samples": PROMPTS * SAMPLES,
        "algorithm.epochs": 1,
        "actor.lr": LR,
        "trainer.steps": 100_000,
        "trainer.validate_every": 0,
    }
    run_ppo(load_config("ppo", flags=flags, environ={}))


def train_with_trl(folder: Path, settings: dict[str, Any], threads: int, answer_tokens: int) -> None:
    """`GRPOTrainer.train`, with a turn after each step."""
    import torch
    from datasets import Dataset
    from transformers import AutoModelForCausalLM, AutoTokenizer, TrainerCallback
    from trl import GRPOConfig, GRPOTrainer

    torch.set_num_threads(threads)
    turns = Turns()
    lengths: list[int] = []
    names: dict[str, Any] = {}
    exec((folder / "reward.py").read_text(encoding="utf-8"), names)

    def reward(completions: list[Any], completion_ids: list[list[int]], **_: Any) -> list[float]:
        lengths.extend(len(ids) for ids in completion_ids)
        return [names["score"](completion[0]["content"]) for completion in completions]

    class Turn(TrainerCallback):  # type: ignore[misc, valid-type]
        def on_step_end(self, *_: Any, **__: Any) -> None:
            mean = statistics.mean(lengths)
            lengths.clear()
            turns.finished(answer_tokens=mean)

    config = {
        "output_dir": str(folder / "trl"),
        "use_cpu": True,
        "bf16": False,
        "num_generations": SAMPLES,
        "max_completion_length": answer_tokens,
        "shuffle_dataset": False,
        "learning_rate": LR,
        "lr_scheduler_type": "constant",
        "max_steps": 100_000,
        "save_strategy": "no",
        "report_to": "none",
        "disable_tqdm": True,
        **settings,
    }
    rows = [json.loads(line) for line in (folder / "rows.jsonl").read_text(encoding="utf-8").splitlines()]
    prompts = [{"prompt": [{"role": "user", "content": row["question"]}]} for row in rows]
    GRPOTrainer(
        model=AutoModelForCausalLM.from_pretrained(folder / "model", dtype=torch.float32),
        reward_funcs=reward,
        args=GRPOConfig(**config),
        train_dataset=Dataset.from_list(prompts),
        processing_class=AutoTokenizer.from_pretrained(folder / "model"),
        callbacks=[Turn()],
    ).train()


if __name__ == "__main__":
    main()
