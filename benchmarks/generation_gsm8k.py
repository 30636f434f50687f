"""Tokens per second and peak memory of the `hf` engine against transformers' `generate`, on GSM8K. Not a quality benchmark.

    python benchmarks/generation_gsm8k.py --data FOLDER [--threads 1 2] [--repeats 3]

FOLDER holds gsm8k_train.jsonl and gsm8k_test.jsonl (`question`, `answer`). A random 6-layer, 256-wide Qwen3 with a
vocabulary trained on the questions and answers samples at temperature 1. It would not stop where a real model stops, so
each prompt's answer is cut at the length of its GSM8K answer, at most 256 tokens: the natural mix of lengths, the same
for both sides. `generate` takes one length a batch and runs to the longest; it gets the fixed batch size, in order of
prompt length, that is fastest in a first round. Then both answer all prompts in turns, in one process; the result has
the median of the paired ratios, of wall time and of CPU time (on a busy machine the steadier one). Peak memory is that of
a process of its own for each. JSON goes to results/ beside this file.
"""

from __future__ import annotations

import argparse
import functools
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results" / "generation_gsm8k.json"
MAX_TOKENS = 256
SHAPE = {
    "hidden_size": 256,
    "intermediate_size": 768,
    "num_hidden_layers": 6,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 64,
    "max_position_embeddings": 1024,
}
VOCABULARY = 2048

Side = Callable[[int], int]  # seed -> tokens that belong to answers


@dataclass(frozen=True)
class Workload:
    """Prompts as token ids, and how many tokens each answer has."""

    prompts: list[tuple[int, ...]]
    lengths: list[int]

    def first(self, count: int) -> Workload:
        return Workload(self.prompts[:count], self.lengths[:count])


def main() -> None:
    arguments = parse_arguments()
    if arguments.only:
        measure_memory(arguments)
        return
    with tempfile.TemporaryDirectory() as folder:
        model = Path(folder) / "model"
        create(model, arguments.data)
        result: dict[str, Any] = {
            "threads": {str(threads): compare(model, arguments, threads) for threads in arguments.threads},
            "model": {**SHAPE, "vocab_size": VOCABULARY},
            "workload": describe(read_workload(arguments, model)),
            "versions": versions(),
        }
    print(json.dumps(result, indent=2))
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])  # type: ignore[union-attr]
    parser.add_argument("--data", type=Path, default=os.environ.get("GSM8K_FOLDER"), help="or set GSM8K_FOLDER")
    parser.add_argument("--prompts", type=int, default=512)
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--batch-sizes", type=int, nargs="+", default=[16, 32, 64, 128])
    parser.add_argument("--first-round-prompts", type=int, default=128, help="to find the best batch size")
    parser.add_argument("--only", choices=["hf", "generate"], help=argparse.SUPPRESS)
    parser.add_argument("--model", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.data is None:
        parser.error("give --data FOLDER or set GSM8K_FOLDER")
    arguments.data = Path(arguments.data)
    return arguments


def create(folder: Path, data: Path) -> None:
    from rlkit.models.create import create_model

    create_model(
        folder,
        family="qwen3",
        overrides=SHAPE,
        tokenizer="bpe",
        tokenizer_data=[data / "gsm8k_train.jsonl"],
        vocab_size=VOCABULARY,
    )


def read_workload(arguments: argparse.Namespace, model: Path) -> Workload:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(model)
    lines = (arguments.data / "gsm8k_test.jsonl").read_text(encoding="utf-8").splitlines()[: arguments.prompts]
    rows = [json.loads(line) for line in lines]
    prompts = [
        tuple(
            tokenizer.apply_chat_template(
                [{"role": "user", "content": row["question"]}], add_generation_prompt=True, return_dict=False
            )
        )
        for row in rows
    ]
    return Workload(prompts, [min(MAX_TOKENS, len(tokenizer.encode(row["answer"])) + 1) for row in rows])


def compare(model: Path, arguments: argparse.Namespace, threads: int) -> dict[str, Any]:
    import torch

    torch.set_num_threads(threads)
    workload = read_workload(arguments, model)
    part = workload.first(arguments.first_round_prompts)
    tried = {size: measure(with_generate(model, part, size), 0) for size in arguments.batch_sizes}
    best = max(tried, key=lambda size: tried[size]["tokens_per_cpu_s"])
    sides = {"hf": with_hf(model, workload), "generate": with_generate(model, workload, best)}
    measure(with_hf(model, part), 0)  # warms up
    runs: list[dict[str, dict[str, float]]] = []
    for repeat in range(arguments.repeats):
        order = list(sides) if repeat % 2 == 0 else list(reversed(sides))
        runs.append({name: measure(sides[name], repeat) for name in order})
        print(threads, "threads:", json.dumps(runs[-1]), file=sys.stderr, flush=True)
    return {
        "ratio_wall": paired(runs, "tokens_per_s"),
        "ratio_cpu": paired(runs, "tokens_per_cpu_s"),
        "best_batch_size_of_generate": best,
        "first_round_of_generate": {str(size): rounded(speed) for size, speed in tried.items()},
        "runs": [{name: rounded(speed) for name, speed in run.items()} for run in runs],
        "peak_memory_mib": {name: peak_memory(name, model, arguments, threads, best) for name in sides},
        "floor": matmul_floor(model, workload),
    }


def measure(side: Side, seed: int) -> dict[str, float]:
    wall, cpu = time.perf_counter(), time.process_time()
    tokens = side(seed)
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    return {"tokens_per_s": tokens / wall, "tokens_per_cpu_s": tokens / cpu, "wall_s": wall, "cpu_s": cpu}


def rounded(speed: dict[str, float]) -> dict[str, float]:
    return {name: round(value, 1) for name, value in speed.items()}


def paired(runs: list[dict[str, dict[str, float]]], name: str) -> dict[str, Any]:
    ratios = [run["hf"][name] / run["generate"][name] for run in runs]
    return {"median": round(statistics.median(ratios), 2), "all": [round(ratio, 2) for ratio in ratios]}


@functools.cache
def engine_on(model: Path) -> Any:
    from rlkit_hf.engine import HFEngine
    from rlkit_hf.options import HFEngineOptions

    from rlkit.models.registry import find_family
    from rlkit.models.tokenizer import load_tokenizer
    from rlkit.rollout.engine_model import EngineModel

    engine_model = EngineModel(model, find_family(model), load_tokenizer(model), "float32", "cpu", False, 0)
    return HFEngine(HFEngineOptions(), model=engine_model)


def with_hf(model: Path, workload: Workload) -> Side:
    """The engine with its default options, asked through the scheduler that `generate` and the server share."""
    from rlkit.types import CompletionRequest, SamplingParams

    engine = engine_on(model)

    def answer(seed: int) -> int:
        rows = enumerate(zip(workload.prompts, workload.lengths, strict=True))
        for row, (prompt, length) in sorted(rows, key=lambda entry: -len(entry[1][0])):  # as `generate` does
            sampling = SamplingParams(max_tokens=length, seed=seed)
            engine.submit(CompletionRequest(str(row), prompt, sampling, row_id=row))
        tokens = 0
        while engine.has_work:
            tokens += sum(len(chunk.token_ids) for chunk in engine.step())
        return tokens

    return answer


@functools.cache
def model_for_generate(folder: Path) -> Any:
    import torch
    from transformers import AutoModelForCausalLM
    from transformers.utils import logging

    logging.disable_progress_bar()
    return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()


def with_generate(folder: Path, workload: Workload, batch_size: int) -> Side:
    import torch

    model = model_for_generate(folder)
    pad, end = model.config.pad_token_id, model.config.eos_token_id
    order = sorted(range(len(workload.prompts)), key=lambda row: len(workload.prompts[row]))

    def answer_batch(rows: list[int]) -> int:
        prompts = [workload.prompts[row] for row in rows]
        width = max(map(len, prompts))
        ids = torch.tensor([[pad] * (width - len(prompt)) + list(prompt) for prompt in prompts])
        mask = torch.tensor([[0] * (width - len(prompt)) + [1] * len(prompt) for prompt in prompts])
        longest = max(workload.lengths[row] for row in rows)
        with torch.inference_mode():
            output = model.generate(ids, attention_mask=mask, do_sample=True, top_k=0, max_new_tokens=longest)
        answers = [
            answer[: workload.lengths[row]] for row, answer in zip(rows, output[:, width:].tolist(), strict=True)
        ]
        return sum(answer.index(end) + 1 if end in answer else len(answer) for answer in answers)

    def answer(seed: int) -> int:
        torch.manual_seed(seed)
        return sum(answer_batch(order[start : start + batch_size]) for start in range(0, len(order), batch_size))

    return answer


def peak_memory(side: str, model: Path, arguments: argparse.Namespace, threads: int, batch_size: int) -> int:
    """MiB that a process of its own had resident at most, which answers all prompts with one side."""
    command = [sys.executable, __file__, "--only", side, "--model", str(model), "--data", str(arguments.data)]
    command += ["--prompts", str(arguments.prompts), "--threads", str(threads), "--batch-sizes", str(batch_size)]
    output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return int(output.split()[-1])


def measure_memory(arguments: argparse.Namespace) -> None:
    import torch

    torch.set_num_threads(arguments.threads[0])
    workload = read_workload(arguments, arguments.model)
    if arguments.only == "hf":
        with_hf(arguments.model, workload)(0)
    else:
        with_generate(arguments.model, workload, arguments.batch_sizes[0])(0)
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024)


def matmul_floor(model: Path, workload: Workload) -> dict[str, float]:
    """Seconds that the linear layers alone would take, at the best rate measured here with torch's `linear`."""
    import torch

    parameters = sum(p.numel() for p in model_for_generate(model).parameters())
    embeddings = VOCABULARY * SHAPE["hidden_size"]
    prompt_tokens, answer_tokens = sum(map(len, workload.prompts)), sum(workload.lengths)
    # Tied embeddings: the head multiplies once a sampled token, the rest once a token.
    operations = 2 * (parameters - embeddings) * (prompt_tokens + answer_tokens) + 2 * embeddings * answer_tokens
    rows, weight = torch.randn(256, 256), torch.randn(768, 256)
    seconds = []
    for _ in range(200):
        start = time.process_time()
        torch.nn.functional.linear(rows, weight)
        seconds.append(time.process_time() - start)
    rate = 2 * 256 * 256 * 768 / min(seconds)
    return {
        "operations": operations,
        "gflops_of_linear_per_cpu_s": round(rate / 1e9, 1),
        "cpu_s": round(operations / rate, 1),
    }


def describe(workload: Workload) -> dict[str, float]:
    return {
        "prompts": len(workload.prompts),
        "prompt_tokens_mean": round(statistics.mean(map(len, workload.prompts)), 1),
        "answer_tokens_mean": round(statistics.mean(workload.lengths), 1),
        "answer_tokens_max": max(workload.lengths),
    }


def versions() -> dict[str, str]:
    import torch
    import transformers

    return {"python": platform.python_version(), "torch": torch.__version__, "transformers": transformers.__version__}


if __name__ == "__main__":
    main()
