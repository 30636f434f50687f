"""Make the data of this project: additions with worked steps, split into problems to learn from and problems held out.

    37+85=?   ->   7+5=12 3+8+1=12 #### 122        column by column, with the carry; the answer after ####

    data/sft.jsonl      conversations for `rlkit sft`: a few training problems, worked out (worked examples are scarce)
    data/train.jsonl    prompt and answer for `rlkit train ppo`: all training problems
    data/heldout.jsonl  prompt and answer for validation and evaluation; no problem of it is in the other two files

A problem and its mirror image (3+4 and 4+3) count as one, so knowing the one never gives the other away. The same seed
always makes the same files.

    python make_data.py --seed 1 --largest 999 --heldout 1000
"""

from __future__ import annotations

import argparse
import json
import random
from collections.abc import Iterable
from pathlib import Path
from typing import Any

Problem = tuple[int, int]


def question(problem: Problem) -> str:
    return f"{problem[0]}+{problem[1]}=?"


def answer(problem: Problem) -> str:
    return str(sum(problem))


def worked(problem: Problem) -> str:
    """The steps from the last column to the first, then the answer."""
    a, b = problem
    steps: list[str] = []
    carry = 0
    while a or b or not steps:
        column = f"{a % 10}+{b % 10}" + ("+1" if carry else "")
        total = a % 10 + b % 10 + carry
        steps.append(f"{column}={total}")
        carry, a, b = total // 10, a // 10, b // 10
    return f"{' '.join(steps)} #### {answer(problem)}"


def split(largest: int, heldout: int, seed: int) -> tuple[list[Problem], list[Problem]]:
    """All additions of numbers up to `largest`, as (training problems, held-out problems)."""
    pairs = [(a, b) for a in range(largest + 1) for b in range(a, largest + 1)]
    shuffler = random.Random(seed)
    shuffler.shuffle(pairs)
    if not 0 < heldout < len(pairs):
        raise SystemExit(f"--heldout {heldout} must be between 1 and {len(pairs) - 1} for numbers up to {largest}")
    held = [pair if shuffler.random() < 0.5 else pair[::-1] for pair in pairs[:heldout]]
    train = [problem for a, b in pairs[heldout:] for problem in {(a, b), (b, a)}]
    shuffler.shuffle(train)
    return train, held


def conversation(problem: Problem) -> dict[str, Any]:
    return {
        "messages": [
            {"role": "user", "content": question(problem)},
            {"role": "assistant", "content": worked(problem)},
        ]
    }


def prompt(problem: Problem) -> dict[str, Any]:
    return {"prompt": question(problem), "answer": answer(problem), "data_source": "addition"}


def write(path: Path, rows: Iterable[dict[str, Any]]) -> None:
    lines = [json.dumps(row) for row in rows]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    print(f"{path}: {len(lines)} rows")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, default=Path("data"), help="folder for the three files")
    parser.add_argument("--seed", type=int, default=0, help="decides which problems are held out")
    parser.add_argument("--largest", type=int, default=99, help="largest number that is added")
    parser.add_argument("--examples", type=int, default=200, help="training problems shown worked out")
    parser.add_argument("--heldout", type=int, default=1000, help="problems kept for evaluation")
    options = parser.parse_args()

    train, held = split(options.largest, options.heldout, options.seed)
    options.output.mkdir(parents=True, exist_ok=True)
    write(options.output / "sft.jsonl", map(conversation, train[: options.examples]))
    write(options.output / "train.jsonl", map(prompt, train))
    write(options.output / "heldout.jsonl", map(prompt, held))


if __name__ == "__main__":
    main()
