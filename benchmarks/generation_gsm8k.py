"""`rlkit generate` with the `hf` engine against transformers' `generate` on GSM8K: tokens per second and peak memory.

    python benchmarks/generation_gsm8k.py --data FOLDER [--model FOLDER] [--threads 1] [--pairs 5] [--prompts 512]

FOLDER holds gsm8k_train.jsonl and gsm8k_test.jsonl (`question`, `answer`). Not a quality benchmark.

The model is a 6-layer, 256-wide Qwen3 with a vocabulary of 2,048, trained for a few minutes on the answers of the training
set, so that it ends its own answers: sampled at temperature 1 they differ in length as answers do. Both sides sample up to
256 tokens with it for the first prompts of the test set, in float32, with one number of threads.

The other side is what a careful user of `generate` writes (`answer_with_transformers`): inference mode, KV cache, prompts
sorted by length so that a batch has little padding, batches of the size that is fastest in a first round.

Every measurement is a process of its own, from the command to the file of answers: start, loading, tokenization, sampling
and decoding are in it. The two sides take turns; the results are medians of the ratios of neighbours, of wall time and of
CPU time (on a busy machine the steadier one), both per token of answer. Peak memory is what the kernel saw of the process.
JSON goes to results/ beside this file.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from importlib.metadata import version
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
TRAINING = {"conversations": 4000, "batch_size": 16, "learning_rate": 0.002}
OPERATIONS = {
    "linear layers": ("mkldnn::_linear_pointwise", "aten::addmm", "aten::mm"),
    "attention": ("aten::bmm", "aten::_scaled_dot_product_flash_attention_for_cpu", "aten::_softmax", "aten::add_"),
    "copies, most of keys and values": ("aten::copy_", "aten::_index_put_impl_", "aten::cat", "aten::index"),
}
"""What the time of torch's operations is divided into; the rest are norms, rotary positions, activations and sampling."""

PROFILED_PROMPTS = 96
"""The profiler keeps every operation in memory: of more prompts it would need many GiB."""


@dataclass(frozen=True)
class Run:
    """One process that answered all prompts."""

    tokens: int
    wall_s: float
    cpu_s: float
    peak_mib: int


def main() -> None:
    arguments = parse_arguments()
    if arguments.inside:
        {"transformers": answer_with_transformers, "profile": profile, "linear": linear_rate}[arguments.inside](
            arguments
        )
        return
    with tempfile.TemporaryDirectory() as folder:
        arguments.work = Path(folder)
        if arguments.model is None or not arguments.model.exists():
            arguments.model = make_model(arguments)
        result = {
            "threads": {str(threads): compare(arguments, threads) for threads in arguments.threads},
            "model": {**SHAPE, "vocab_size": VOCABULARY, "training": TRAINING},
            "versions": {"python": platform.python_version(), **{n: version(n) for n in ("torch", "transformers")}},
        }
    print(json.dumps(result, indent=2))
    RESULTS.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--model", type=Path, help="use this model, or leave the one that is made there")
    parser.add_argument("--prompts", type=int, default=512)
    parser.add_argument("--threads", type=int, nargs="+", default=[1])
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--batch-sizes", type=int, nargs="+", default=[8, 16, 32, 64, 128])
    parser.add_argument("--first-round-prompts", type=int, default=128, help="to find the best batch size")
    parser.add_argument("--inside", choices=["transformers", "profile", "linear"], help=argparse.SUPPRESS)
    parser.add_argument("--output", type=Path, help=argparse.SUPPRESS)
    return parser.parse_args()


def make_model(arguments: argparse.Namespace) -> Path:
    """Random weights and a vocabulary from the training set, then `rlkit sft` on it."""
    work: Path = arguments.work
    created, train = work / "created", work / "train.jsonl"
    settings = [part for name, value in SHAPE.items() for part in ("--set", f"{name}={value}")]
    data = arguments.data / "gsm8k_train.jsonl"
    create = ["rlkit", "models", "create", str(created), "--family", "qwen3", *settings]
    run([*create, "--tokenizer", "bpe", "--tokenizer-data", str(data), "--vocab-size", str(VOCABULARY)])
    with train.open("w", encoding="utf-8") as file:
        for row in read_rows(data)[: int(TRAINING["conversations"])]:
            turns = [("user", row["question"]), ("assistant", row["answer"])]
            file.write(json.dumps({"messages": [{"role": role, "content": text} for role, text in turns]}) + "\n")
    learn = ["rlkit", "sft", "--model", str(created), "--data", str(train), "--epochs", "1", "--device", "cpu"]
    learn += ["--batch-size", str(TRAINING["batch_size"]), "--lr", str(TRAINING["learning_rate"])]
    run([*learn, "--output", str(work / "runs"), "--name", "sft"])
    trained = work / "runs" / "sft" / "model"
    if arguments.model is None:
        return trained
    arguments.model.parent.mkdir(parents=True, exist_ok=True)
    return Path(trained.rename(arguments.model))


def compare(arguments: argparse.Namespace, threads: int) -> dict[str, Any]:
    some = arguments.first_round_prompts
    with_generate(arguments, threads, batch_size=8, prompts=8, seed=0)  # files into the page cache
    first = {
        size: with_generate(arguments, threads, batch_size=size, prompts=some, seed=0) for size in arguments.batch_sizes
    }
    best = max(first, key=lambda size: first[size].tokens / first[size].wall_s)
    print(threads, "threads, first round:", first, file=sys.stderr, flush=True)
    runs: list[dict[str, Run]] = []
    for pair in range(arguments.pairs):
        order = ["rlkit", "transformers"] if pair % 2 == 0 else ["transformers", "rlkit"]
        runs.append({name: answer(name, arguments, threads, batch_size=best, seed=pair) for name in order})
        print(threads, "threads:", runs[-1], file=sys.stderr, flush=True)
    answers = describe(arguments.work / "rlkit.jsonl")
    peaks = {name: max(pair[name].peak_mib for pair in runs) for name in ("rlkit", "transformers")}
    return {
        "ratio_wall": paired(runs, "wall_s"),
        "ratio_cpu": paired(runs, "cpu_s"),
        "peak_mib": peaks,
        "best_batch_size_of_transformers": best,
        "start_and_stop_cpu_s": {
            "rlkit": with_rlkit(arguments, threads, prompts=1, seed=0).cpu_s,
            "transformers": with_generate(arguments, threads, batch_size=1, prompts=1, seed=0).cpu_s,
        },
        "pairs": [{name: asdict(side) for name, side in pair.items()} for pair in runs],
        "first_round_of_transformers": {str(size): asdict(side) for size, side in first.items()},
        "answers": answers,
        "rlkit_cpu_s": where_the_time_goes(arguments, threads),
    }


def answer(side: str, arguments: argparse.Namespace, threads: int, *, batch_size: int, seed: int) -> Run:
    if side == "rlkit":
        return with_rlkit(arguments, threads, prompts=arguments.prompts, seed=seed)
    return with_generate(arguments, threads, batch_size=batch_size, prompts=arguments.prompts, seed=seed)


def paired(runs: list[dict[str, Run]], name: str) -> dict[str, Any]:
    """How many times as many tokens a second rlkit has."""

    def speed(side: Run) -> float:
        return float(side.tokens / getattr(side, name))

    ratios = [speed(pair["rlkit"]) / speed(pair["transformers"]) for pair in runs]
    return {"median": round(statistics.median(ratios), 2), "all": [round(ratio, 2) for ratio in ratios]}


def with_rlkit(arguments: argparse.Namespace, threads: int, *, prompts: int, seed: int) -> Run:
    output = arguments.work / "rlkit.jsonl"
    output.unlink(missing_ok=True)
    run_ = run(["rlkit", *generate_options(arguments, threads, output, prompts=prompts, seed=seed)], threads=threads)
    return Run(sum(answer_lengths(output)), *run_)


def generate_options(
    arguments: argparse.Namespace, threads: int, output: Path, *, prompts: int, seed: int
) -> list[str]:
    """All defaults but for what the comparison fixes."""
    options = ["generate", "--model", str(arguments.model), "--prompts", str(arguments.data / "gsm8k_test.jsonl")]
    options += ["--limit", str(prompts), "--max-tokens", str(MAX_TOKENS), "--temperature", "1", "--device", "cpu"]
    return [*options, "--seed", str(seed), "--set", f"run.threads={threads}", "--output", str(output)]


def with_generate(arguments: argparse.Namespace, threads: int, *, batch_size: int, prompts: int, seed: int) -> Run:
    output = arguments.work / "transformers.jsonl"
    command = inside("transformers", arguments, threads, prompts=prompts, output=output)
    run_ = run([*command, "--batch-sizes", str(batch_size), "--pairs", str(seed)], threads=threads)
    return Run(sum(answer_lengths(output)), *run_)


def inside(name: str, arguments: argparse.Namespace, threads: int, *, prompts: int, output: Path) -> list[str]:
    command = [
        sys.executable,
        __file__,
        "--inside",
        name,
        "--model",
        str(arguments.model),
        "--data",
        str(arguments.data),
    ]
    return [*command, "--prompts", str(prompts), "--threads", str(threads), "--output", str(output)]


def run(command: list[str], threads: int | None = None) -> tuple[float, float, int]:
    """Wall and CPU seconds and peak MiB of a command; stops the benchmark when it fails.

    The kernel counts what a process had before exec, so this process must stay small: it never imports torch.
    """
    environment = os.environ | ({} if threads is None else {"OMP_NUM_THREADS": str(threads)})
    with tempfile.TemporaryFile() as log:
        start = time.perf_counter()
        process = subprocess.Popen(command, env=environment, stdout=log, stderr=log)
        _, status, usage = os.wait4(process.pid, 0)
        wall = time.perf_counter() - start
        process.returncode = os.waitstatus_to_exitcode(status)
        log.seek(0)
        if process.returncode:
            raise SystemExit(f"{' '.join(command)} failed:\n{log.read().decode(errors='replace')[-4000:]}")
    return round(wall, 2), round(usage.ru_utime + usage.ru_stime, 2), usage.ru_maxrss // 1024


def read_rows(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def answer_lengths(path: Path) -> list[int]:
    return [int(answer["num_tokens"]) for row in read_rows(path) for answer in row["completions"]]


def describe(path: Path) -> dict[str, float]:
    lengths = sorted(answer_lengths(path))
    deciles = statistics.quantiles(lengths, n=10)
    return {
        "number": len(lengths),
        "tokens_mean": round(statistics.mean(lengths), 1),
        "tokens_first_decile": deciles[0],
        "tokens_median": deciles[4],
        "tokens_last_decile": deciles[8],
        "cut_at_the_limit": sum(length == MAX_TOKENS for length in lengths),
    }


def answer_with_transformers(arguments: argparse.Namespace) -> None:
    """The whole other side. `--batch-sizes` names its batch size and `--pairs` its seed."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from transformers.utils import logging

    torch.set_num_threads(arguments.threads[0])
    torch.manual_seed(arguments.pairs)
    logging.disable_progress_bar()
    tokenizer = AutoTokenizer.from_pretrained(arguments.model, padding_side="left")
    model = AutoModelForCausalLM.from_pretrained(arguments.model, dtype=torch.float32).eval()
    rows = read_rows(arguments.data / "gsm8k_test.jsonl")[: arguments.prompts]
    conversations = [[{"role": "user", "content": row["question"]}] for row in rows]
    prompts = tokenizer.apply_chat_template(conversations, add_generation_prompt=True, return_dict=False)
    order = sorted(range(len(prompts)), key=lambda row: len(prompts[row]))
    answers: dict[int, list[int]] = {}
    size = arguments.batch_sizes[0]
    for start in range(0, len(order), size):
        batch = order[start : start + size]
        inputs = tokenizer.pad({"input_ids": [prompts[row] for row in batch]}, return_tensors="pt")
        with torch.inference_mode():
            output = model.generate(**inputs, do_sample=True, temperature=1.0, top_k=0, max_new_tokens=MAX_TOKENS)
        for row, answer in zip(batch, output[:, inputs["input_ids"].shape[1] :].tolist(), strict=True):
            end = tokenizer.eos_token_id
            answers[row] = answer[: answer.index(end) + 1] if end in answer else answer
    texts = tokenizer.batch_decode([answers[row] for row in range(len(rows))], skip_special_tokens=True)
    with arguments.output.open("w", encoding="utf-8") as file:
        for row, text in enumerate(texts):
            completion = {"text": text, "num_tokens": len(answers[row])}
            file.write(json.dumps({"row_id": row, "completions": [completion]}) + "\n")


def where_the_time_goes(arguments: argparse.Namespace, threads: int) -> dict[str, Any]:
    """CPU seconds of `rlkit generate` on a few prompts by kind of operation, and what its linear layers take at the best rate."""
    report = arguments.work / "profile.json"
    run(inside("profile", arguments, threads, prompts=PROFILED_PROMPTS, output=report), threads=threads)
    parts: dict[str, float] = json.loads(report.read_text(encoding="utf-8"))
    run(inside("linear", arguments, threads, prompts=PROFILED_PROMPTS, output=report), threads=threads)
    rate: float = json.loads(report.read_text(encoding="utf-8"))
    operations = parts.pop("operations of linear layers")
    return {
        "prompts": PROFILED_PROMPTS,
        **{name: round(seconds, 2) for name, seconds in parts.items()},
        "floor": {
            "operations": int(operations),
            "gflops_of_the_best_linear_layer": round(rate / 1e9, 1),
            "cpu_s": round(operations / rate, 2),
        },
    }


def profile(arguments: argparse.Namespace) -> None:
    """`rlkit generate` in this process, a first time as it is and a second time with every operation of torch timed."""
    from torch.profiler import ProfilerActivity
    from torch.profiler import profile as profiler

    from rlkit.cli.main import main as rlkit

    def generate() -> float:
        rows = arguments.output.with_suffix(".jsonl")
        rows.unlink(missing_ok=True)
        sys.argv = [
            "rlkit",
            *generate_options(arguments, arguments.threads[0], rows, prompts=arguments.prompts, seed=0),
        ]
        start = time.process_time()
        try:
            rlkit()
        except SystemExit as end:
            if end.code:
                raise
        return time.process_time() - start

    generate()
    whole = generate()
    with profiler(activities=[ProfilerActivity.CPU]) as recorded:
        generate()
    times = {event.key: event.self_cpu_time_total / 1e6 for event in recorded.key_averages()}
    parts = {name: sum(times.pop(key, 0.0) for key in keys) for name, keys in OPERATIONS.items()}
    parts["norms, rotary positions, activations, sampling"] = sum(times.values())
    parts["Python between operations, tokenizer, files"] = whole - sum(parts.values())
    parts["operations of linear layers"] = linear_operations(arguments)
    arguments.output.write_text(json.dumps({"whole, without start": whole, **parts}), encoding="utf-8")


def linear_operations(arguments: argparse.Namespace) -> float:
    """Of one run: every token of prompts and answers through the layers, every answered one through the head."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model = AutoModelForCausalLM.from_pretrained(arguments.model)
    tokenizer = AutoTokenizer.from_pretrained(arguments.model)
    head = model.get_output_embeddings().weight.numel()
    layers = sum(p.numel() for p in model.model.layers.parameters() if p.dim() == 2)
    answered = sum(answer_lengths(arguments.output.with_suffix(".jsonl")))
    asked = sum(
        len(
            tokenizer.apply_chat_template([{"role": "user", "content": row["question"]}], add_generation_prompt=True)[
                "input_ids"
            ]
        )
        for row in read_rows(arguments.data / "gsm8k_test.jsonl")[: arguments.prompts]
    )
    return float(2 * layers * (asked + answered) + 2 * head * answered)


def linear_rate(arguments: argparse.Namespace) -> None:
    """Operations a CPU second of one large linear layer of this shape, by the library that the engine uses."""
    import torch
    from rlkit_hf.linear import use_fast_linear
    from torch import nn

    torch.set_num_threads(arguments.threads[0])
    layer = nn.Sequential(nn.Linear(SHAPE["hidden_size"], SHAPE["intermediate_size"], bias=False)).requires_grad_(False)
    use_fast_linear(layer)
    rows = torch.randn(256, SHAPE["hidden_size"])
    seconds = []
    with torch.inference_mode():
        for _ in range(50):
            start = time.process_time()
            for _ in range(20):
                layer(rows)
            seconds.append((time.process_time() - start) / 20)
    operations = 2 * rows.numel() * SHAPE["intermediate_size"]
    arguments.output.write_text(json.dumps(operations / min(seconds)), encoding="utf-8")


if __name__ == "__main__":
    main()
