"""A step of supervised fine-tuning against TRL's, on GSM8K. Speed and memory only; says nothing about quality.

    python benchmarks/training_sft.py --data gsm8k_train.jsonl [--rounds 12] [--threads 2] [--settings default,best]

Both sides train the 256-wide Qwen3 (`rlkit models create --family qwen3 --size small --tokenizer byte`: 6 layers, 4.8 M
parameters) in float32 with AdamW on the same rows in the same order, 8 an optimizer step (a packed setting of TRL: about as
many tokens a step), each with its own whole training loop. They do their steps in turns (turns.py). TRL (1.16 was measured)
has to be installed beside rlkit. Speed is compared in seconds a token, padding not counted. The result goes to
results/training_sft.json beside this file.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from turns import Turns, paired_ratio, seconds_per, take_turns, versions

RESULTS = Path(__file__).parent / "results" / "training_sft.json"
ROWS, MAX_TOKENS, LR = 8, 1024, 1e-4

TRL_SETTINGS: dict[str, dict[str, Any]] = {
    "default": {},
    "no_checkpointing": {"gradient_checkpointing": False},
    "one_row": {
        "gradient_checkpointing": False,
        "per_device_train_batch_size": 1,
        "gradient_accumulation_steps": ROWS,
    },
    "two_rows": {
        "gradient_checkpointing": False,
        "per_device_train_batch_size": 2,
        "gradient_accumulation_steps": ROWS // 2,
        "train_sampling_strategy": "group_by_length",
    },
    "by_length": {"gradient_checkpointing": False, "train_sampling_strategy": "group_by_length"},
    "padding_free": {"gradient_checkpointing": False, "padding_free": True, "max_length": None},
    "packing": {"gradient_checkpointing": False, "packing": True, "per_device_train_batch_size": 4},
    "packing_one_row": {
        "gradient_checkpointing": False,
        "packing": True,
        "per_device_train_batch_size": 1,
        "gradient_accumulation_steps": 4,
    },
}
"""On top of TRL's defaults, of which two are changed for all: float32 instead of bfloat16, as on the other side, and rows
in file order. `default` is otherwise what TRL does when nobody says anything: 8 padded rows, gradient checkpointing."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])  # type: ignore[union-attr]
    parser.add_argument("--data", required=True, help="GSM8K's training questions and answers, as JSONL")
    parser.add_argument("--rounds", type=int, default=12)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--settings", default=",".join(TRL_SETTINGS), help="which of TRL's settings to compare with")
    parser.add_argument("--micro-batch-tokens", type=int, default=0, help="rlkit's, instead of its default")
    parser.add_argument("--side", help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.side == "rlkit":
        train_with_rlkit(arguments.folder, arguments.threads, arguments.micro_batch_tokens)
    elif arguments.side == "matmul":
        multiply(arguments.threads)
    elif arguments.side:
        train_with_trl(arguments.folder, TRL_SETTINGS[arguments.side], arguments.threads)
    else:
        referee(arguments)


def referee(arguments: argparse.Namespace) -> None:
    """Prepares the data, starts the sides and writes the result."""
    settings = arguments.settings.split(",")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        shape = prepare(folder, arguments.data)
        options = ["--data", arguments.data, "--folder", name, "--threads", str(arguments.threads)]
        options += ["--micro-batch-tokens", str(arguments.micro_batch_tokens)]
        command = [sys.executable, __file__, *options, "--side"]
        commands = {side: [*command, side] for side in ("rlkit", "matmul", *settings)}
        rlkit, matmul, *others = take_turns(commands, folder, rounds=arguments.rounds, threads=arguments.threads)
    result = {
        "trl": {other["name"]: compared(rlkit, other) for other in others},
        "rlkit": {**summary(rlkit), "floor": floor(rlkit, matmul, shape)},
        "workload": {
            "rows_a_step": ROWS,
            "rlkit_tokens_a_step": round(statistics.mean(step["tokens"] for step in rlkit["steps"])),
            "longest_row_tokens": MAX_TOKENS,
            **shape,
        },
        "threads": arguments.threads,
        "rounds": arguments.rounds,
        "trl_settings": {name: TRL_SETTINGS[name] for name in settings},
        "load_average": [round(value, 1) for value in os.getloadavg()],
        "versions": versions("rlkit-llm", "trl", "torch", "transformers", "accelerate"),
    }
    print(json.dumps(result, indent=2))
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")


def compared(ours: dict[str, Any], theirs: dict[str, Any]) -> dict[str, Any]:
    return {
        **summary(theirs),
        "speedup_of_rlkit": paired_ratio(seconds_per(theirs, "tokens"), seconds_per(ours, "tokens")),
        "cpu_time_to_rlkit": paired_ratio(*(seconds_per(side, "tokens", "cpu_seconds") for side in (theirs, ours))),
        "peak_memory_to_rlkit": round(theirs["peak_bytes"] / ours["peak_bytes"], 2),
        "first_losses_rlkit_and_trl": [ours["warm_up"]["loss"], theirs["warm_up"]["loss"]],
    }


def summary(side: dict[str, Any]) -> dict[str, Any]:
    seconds = seconds_per(side, "tokens")
    return {
        "tokens_per_s": round(1 / statistics.median(seconds)),
        "peak_mib": round(side["peak_bytes"] / 2**20),
        "all_seconds": [round(step["seconds"], 3) for step in side["steps"]],
        "all_tokens": [int(step["tokens"]) for step in side["steps"]],
    }


def floor(ours: dict[str, Any], matmul: dict[str, Any], shape: dict[str, Any]) -> dict[str, Any]:
    """Time that the step's matrix products alone would take at the measured rate, over the time of the step.

    6 operations a weight and token (2 forward, 4 backward): every layer's weights at every token, the head's only at tokens
    of the loss; the embedding is looked up, not multiplied. Attention between tokens is not counted.
    """
    fractions = []
    for step, measured in zip(ours["steps"], matmul["steps"], strict=True):
        work = 6 * (shape["layer_weights"] * step["tokens"] + shape["head_weights"] * step["loss_tokens"])
        fractions.append(work / measured["rate"] / step["seconds"])
    low, median, high = statistics.quantiles(fractions, n=4, method="inclusive")
    return {
        "matmul_gflops": round(statistics.median(step["rate"] for step in matmul["steps"]) / 1e9, 1),
        "fraction": {"median": round(median, 3), "low_quartile": round(low, 3), "high_quartile": round(high, 3)},
    }


def prepare(folder: Path, data: str) -> dict[str, Any]:
    """Model, rows for rlkit (text) and for TRL (the tokens that rlkit makes of them)."""
    from transformers import AutoModelForCausalLM

    from rlkit.data.conversations import load_conversations
    from rlkit.data.supervised import encode_conversations
    from rlkit.models.create import create_model
    from rlkit.models.tokenizer import load_tokenizer

    create_model(folder / "model", family="qwen3", size="small", tokenizer="byte")
    tokenizer = load_tokenizer(folder / "model")
    lines = Path(data).read_text(encoding="utf-8").splitlines()
    random.Random(0).shuffle(lines)
    kept: list[str] = []
    rows: list[dict[str, Any]] = []
    scratch = folder / "line.jsonl"
    for line in lines[:1200]:
        scratch.write_text(line + "\n", encoding="utf-8")
        batch = encode_conversations(
            load_conversations((str(scratch),)), tokenizer, max_length=2**20, overlong="refuse"
        ).batch
        if batch.token_ids.num_tokens <= MAX_TOKENS:
            kept.append(line)
            mask = batch.loss_mask.values.int().tolist()
            rows.append({"input_ids": batch.token_ids.values.tolist(), "completion_mask": mask})
    (folder / "rows.jsonl").write_text("\n".join(kept) + "\n", encoding="utf-8")
    (folder / "tokens.json").write_text(json.dumps(rows), encoding="utf-8")
    model: Any = AutoModelForCausalLM.from_pretrained(folder / "model")
    layers = sum(parameter.numel() for parameter in model.model.layers.parameters() if parameter.ndim > 1)
    return {
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "layer_weights": layers,
        "head_weights": model.get_output_embeddings().weight.numel(),
    }


def train_with_rlkit(folder: Path, threads: int, micro_batch_tokens: int) -> None:
    """`rlkit sft`, with a turn after each step."""
    from rlkit.cluster.environment import set_environment_guards

    set_environment_guards()  # as the command does, before torch is imported

    from rlkit.config.load import load_config
    from rlkit.pipelines.sft import run_sft
    from rlkit.trainers.run_events import RunEvents

    turns, finish = Turns(), RunEvents.step_finished

    def step_finished(self: RunEvents, step: int, metrics: Any) -> None:
        finish(self, step, metrics)
        turns.finished(tokens=metrics["sft/tokens"], loss_tokens=metrics["sft/loss_tokens"], loss=metrics["sft/loss"])

    RunEvents.step_finished = step_finished  # type: ignore[method-assign]
    flags = {
        "run.output": str(folder / "runs"),
        "run.device": "cpu",
        "run.threads": threads,
        "model.path": str(folder / "model"),
        "data.train": [str(folder / "rows.jsonl")],
        "data.shuffle": False,
        "sft.batch_size": ROWS,
        "sft.steps": 100_000,
        "sft.lr": LR,
    }
    if micro_batch_tokens:
        flags["sft.micro_batch_tokens"] = micro_batch_tokens
    run_sft(load_config("sft", flags=flags, environ={}))


def train_with_trl(folder: Path, settings: dict[str, Any], threads: int) -> None:
    """`SFTTrainer.train`, with a turn after each step."""
    import torch
    from datasets import Dataset
    from transformers import AutoModelForCausalLM, AutoTokenizer, TrainerCallback
    from trl import SFTConfig, SFTTrainer

    torch.set_num_threads(threads)
    turns = Turns()
    seen: dict[str, float] = {}

    class Counting(SFTTrainer):  # type: ignore[misc, valid-type]
        def compute_loss(self, model: Any, inputs: dict[str, Any], *args: Any, **more: Any) -> Any:
            mask = inputs.get("attention_mask")
            seen["tokens"] = seen.get("tokens", 0) + int(inputs["input_ids"].numel() if mask is None else mask.sum())
            loss = super().compute_loss(model, inputs, *args, **more)
            seen["loss"] = seen.get("loss", 0.0) + float(loss)
            return loss

    class Turn(TrainerCallback):  # type: ignore[misc, valid-type]
        def on_step_end(self, *_: Any, **__: Any) -> None:
            numbers = {**seen}
            seen.clear()
            turns.finished(**numbers)

    config = {
        "output_dir": str(folder / "trl"),
        "use_cpu": True,
        "bf16": False,
        "max_length": MAX_TOKENS,
        "completion_only_loss": True,
        "train_sampling_strategy": "sequential",
        "learning_rate": LR,
        "lr_scheduler_type": "constant",
        "max_steps": 100_000,
        "save_strategy": "no",
        "report_to": "none",
        "disable_tqdm": True,
        **settings,
    }
    Counting(
        model=AutoModelForCausalLM.from_pretrained(folder / "model", dtype=torch.float32),
        args=SFTConfig(**config),
        train_dataset=Dataset.from_list(json.loads((folder / "tokens.json").read_text(encoding="utf-8"))),
        processing_class=AutoTokenizer.from_pretrained(folder / "model"),
        callbacks=[Turn()],
    ).train()


def multiply(threads: int) -> None:
    """Operations a second of the model's own commonest product: 4,096 tokens through a 256 x 768 weight."""
    import torch

    torch.set_num_threads(threads)
    turns = Turns()
    tokens, weight = torch.randn(4096, 256), torch.randn(768, 256)
    while True:
        times = []
        for _ in range(15):
            start = time.perf_counter()
            torch.nn.functional.linear(tokens, weight)
            times.append(time.perf_counter() - start)
        turns.finished(rate=2 * 4096 * 256 * 768 / statistics.median(times))


if __name__ == "__main__":
    main()
