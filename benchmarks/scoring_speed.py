"""How long `rlkit eval` takes for 100,000 answers, apart from the reward function: reading, keeping verdicts, statistics.

Processor time, of two files and their comparison: the same on a busy machine. It is not a benchmark of reward functions (the
one here compares two strings) nor of models.

    python benchmarks/scoring_speed.py [--output benchmarks/results/scoring_speed.json]
"""

from __future__ import annotations

import argparse
import json
import random
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rlkit.evaluation.evaluate import evaluate_files
from rlkit.evaluation.result_json import as_json_values
from rlkit.evaluation.statistics import IntervalSettings
from rlkit.evaluation.verdicts import VerdictFile
from rlkit.generation.completions_file import Completion, CompletionRow, append_rows
from rlkit.types import Prompt, Reward, Sample

SHAPES = ((100_000, 1), (12_500, 8))
"""Prompts, and answers to each."""


class Exact:
    def score(self, samples: Sequence[Sample]) -> list[Reward]:
        return [Reward(float(sample.response == sample.prompt.reference)) for sample in samples]

    def extract_answers(self, samples: Sequence[Sample]) -> list[str | None]:
        return [sample.response for sample in samples]


def write(path: Path, prompts: int, answers: int, seed: int) -> None:
    generator = random.Random(seed)
    rows = []
    for row in range(prompts):
        chance = generator.random()
        texts = ["7" if generator.random() < chance else str(generator.randrange(6)) for _ in range(answers)]
        prompt = Prompt(row, text=f"question {row}", reference="7", data_source=f"source {row % 5}")
        rows.append(CompletionRow(prompt, tuple(Completion(text, "stop", 5) for text in texts), "m"))
    append_rows(path, rows)


def measure(folder: Path, prompts: int, answers: int) -> dict[str, Any]:
    paths = [str(folder / f"{prompts}-{name}.jsonl") for name in "ab"]
    for seed, path in enumerate(paths):
        write(Path(path), prompts, answers, seed)
    seconds = {}
    for name in ("first", "again"):
        start = time.process_time()
        result = evaluate_files(
            paths,
            Exact(),
            functions=["exact"],
            settings=IntervalSettings(),
            verdicts=lambda path: VerdictFile.open(Path(f"{path}.verdicts"), "judge"),
        )
        json.dumps(as_json_values(result))
        seconds[name] = round(time.process_time() - start, 2)
    return {"prompts": prompts, "answers": answers, "files": 2, "processor_seconds": seconds}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", default="benchmarks/results/scoring_speed.json")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        results = [measure(Path(folder), prompts, answers) for prompts, answers in SHAPES]
    Path(arguments.output).write_text(json.dumps(results, indent=1) + "\n")
    print(json.dumps(results, indent=1))


if __name__ == "__main__":
    main()
