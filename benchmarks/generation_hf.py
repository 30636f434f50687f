"""Tokens per second of the `hf` rollout engine against transformers' `generate` on one batch. Not a quality benchmark.

    python benchmarks/generation_hf.py [--threads 1] [--repeats 5]

A small random Qwen3 answers 64 prompts x 4 samples, sampled at temperature 1. Both sides run in turns in one process;
the medians go to results/generation_hf.json beside this file.
"""

from __future__ import annotations

import argparse
import json
import platform
import random
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results" / "generation_hf.json"
PROMPTS, SAMPLES, MAX_TOKENS = 64, 4, 24
SHAPE = {
    "hidden_size": 128,
    "intermediate_size": 384,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])  # type: ignore[union-attr]
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=5)
    arguments = parser.parse_args()

    import torch
    import transformers

    torch.set_num_threads(arguments.threads)
    transformers.utils.logging.disable_progress_bar()
    with tempfile.TemporaryDirectory() as folder:
        contestants = make_contestants(Path(folder) / "model")
        speeds: dict[str, list[float]] = {name: [] for name in contestants}
        for repeat in range(arguments.repeats + 1):
            for name, answer in contestants.items():
                start = time.perf_counter()
                tokens = answer(repeat)
                speed = tokens / (time.perf_counter() - start)
                if repeat:  # the first round warms up
                    speeds[name].append(speed)
    medians = {name: round(statistics.median(values)) for name, values in speeds.items()}
    result = {
        "tokens_per_s": medians,
        "ratio": round(medians["rlkit hf engine"] / medians["transformers generate"], 2),
        "all_tokens_per_s": {name: [round(value) for value in values] for name, values in speeds.items()},
        "model": SHAPE,
        "workload": {"prompts": PROMPTS, "samples": SAMPLES, "max_tokens": MAX_TOKENS, "prompt_tokens": "12 to 20"},
        "threads": arguments.threads,
        "versions": {
            "python": platform.python_version(),
            "torch": torch.__version__,
            "transformers": transformers.__version__,
        },
    }
    print(json.dumps(result, indent=2))
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")


def make_contestants(folder: Path) -> dict[str, Callable[[int], int]]:
    """By name: a function that answers all prompts with a seed and returns the number of tokens sampled."""
    import torch
    from rlkit_hf.engine import HFEngine
    from rlkit_hf.options import HFEngineOptions
    from transformers import AutoModelForCausalLM

    from rlkit.models.create import create_model
    from rlkit.models.registry import find_family
    from rlkit.models.tokenizer import load_tokenizer
    from rlkit.rollout.engine_model import EngineModel
    from rlkit.types import Prompt, PromptBatch, SamplingParams

    create_model(folder, family="qwen3", overrides=SHAPE, tokenizer="char", alphabet="0123456789+-*= abcdef")
    tokenizer = load_tokenizer(folder)
    generator = random.Random(0)
    token_ids = tuple(
        tuple(generator.randrange(6, len(tokenizer)) for _ in range(generator.randint(12, 20))) for _ in range(PROMPTS)
    )
    batch = PromptBatch(tuple(Prompt(row_id=row) for row in range(PROMPTS)), token_ids)
    engine = HFEngine(
        HFEngineOptions(), model=EngineModel(folder, find_family(folder), tokenizer, "float32", "cpu", False, 0)
    )
    model: Any = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()

    def with_engine(seed: int) -> int:
        rollouts = engine.generate(batch, SamplingParams(max_tokens=MAX_TOKENS, samples=SAMPLES, seed=seed))
        return rollouts.response_ids.num_tokens

    def with_generate(seed: int) -> int:
        torch.manual_seed(seed)
        width = max(map(len, token_ids))
        rows = [row for row in token_ids for _ in range(SAMPLES)]
        ids = torch.tensor([[tokenizer.pad_token_id] * (width - len(row)) + list(row) for row in rows])
        mask = torch.tensor([[0] * (width - len(row)) + [1] * len(row) for row in rows])
        with torch.inference_mode():
            answers = model.generate(ids, attention_mask=mask, do_sample=True, top_k=0, max_new_tokens=MAX_TOKENS)
        end = tokenizer.eos_token_id
        return sum(row.index(end) + 1 if end in row else len(row) for row in answers[:, width:].tolist())

    return {"rlkit hf engine": with_engine, "transformers generate": with_generate}


if __name__ == "__main__":
    main()
