"""How long the reward `code` takes to judge HumanEval's 164 canonical solutions, each in a sandbox of its own.

Wall time, and the processor time of this process, sandboxes and programs. Needs bubblewrap and HumanEval.jsonl.gz.

    python benchmarks/sandbox_humaneval.py --data FOLDER [--output benchmarks/results/sandbox_humaneval.json]
"""

from __future__ import annotations

import argparse
import gzip
import json
import os
import resource
import time
from pathlib import Path
from typing import Any

from rlkit_rewards.code import Code
from rlkit_rewards.code_options import CodeOptions

from rlkit.types import Prompt, Sample

ROUNDS = 2


def cpu_seconds() -> float:
    spent = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in spent)


def solutions(folder: Path) -> list[Sample]:
    with gzip.open(folder / "HumanEval.jsonl.gz", "rt") as lines:
        rows = [json.loads(line) for line in lines]
    return [
        Sample(Prompt(number, text=row["prompt"], extra=row), row["canonical_solution"])
        for number, row in enumerate(rows)
    ]


def measure(samples: list[Sample]) -> dict[str, Any]:
    rounds = []
    for _ in range(ROUNDS):
        started, computed = time.monotonic(), cpu_seconds()
        rewards = Code(CodeOptions())(samples)
        seconds, computed = time.monotonic() - started, cpu_seconds() - computed
        right = sum(reward.score == 1.0 for reward in rewards)
        rounds.append({"right": right, "wall_s": round(seconds, 1), "processor_s": round(computed, 1)})
    return {"solutions": len(samples), "cores": len(os.sched_getaffinity(0)), "rounds": rounds}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", required=True, type=Path)
    parser.add_argument("--output", default="benchmarks/results/sandbox_humaneval.json")
    arguments = parser.parse_args()
    result = measure(solutions(arguments.data))
    Path(arguments.output).write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
