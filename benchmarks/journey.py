"""The quickstart's journey as a user makes it: the commands of its README, word for word, in a fresh folder.

    python benchmarks/journey.py --output demo        what `make demo` runs
    python benchmarks/journey.py --seeds 1,2,3        the whole journey for each seed -> results/journey.json

A seed decides the held-out problems, the starting weights, and everything random in training. Times are wall-clock and
include starting Python for each command.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import shlex
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results" / "journey.json"
SECTION = "## The whole way"
EVALUATION = "evaluation.json"
LIMIT_S, GAIN_POINTS, P_VALUE = 300, 15.0, 0.001


@dataclass(frozen=True)
class Step:
    """One command and the seconds that it took."""

    command: str
    seconds: float


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, help="folder for the project (default: a new temporary one)")
    parser.add_argument("--seed", type=int, help="seed of every command (default: the project's own)")
    parser.add_argument("--seeds", type=seed_list, help=f"several seeds, as 1,2,3; writes results/{RESULTS.name}")
    options = parser.parse_args()
    if options.seeds:
        measure(options.seeds)
        return
    folder = free_folder(options.output) if options.output else temporary_folder()
    steps = travel(folder, seed=options.seed)
    print(f"\n{sum(step.seconds for step in steps):.0f} s for {len(steps)} commands; everything is in {folder}")
    print(f"report with curves and sampled answers: {folder / 'runs' / 'ppo' / 'report.html'}")


def seed_list(text: str) -> list[int]:
    return [int(part) for part in text.split(",")]


def free_folder(wanted: Path) -> Path:
    """`wanted`, or the first of wanted-2, wanted-3, ... that is not there: an earlier journey is never overwritten."""
    candidate, number = wanted, 1
    while candidate.exists():
        number += 1
        candidate = wanted.with_name(f"{wanted.name}-{number}")
    return candidate


def temporary_folder() -> Path:
    return Path(tempfile.mkdtemp(prefix="rlkit-journey-")) / "demo"


def travel(folder: Path, *, seed: int | None) -> list[Step]:
    """Make the project and run its README's commands; stops the process at the first that fails."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    steps = [run(["rlkit", "init", folder.name], folder.parent)]
    for command in shell_commands(folder / "README.md", SECTION):
        extra = [] if seed is None else ["--seed", str(seed)]
        if command[:2] == ["rlkit", "eval"]:
            extra += ["--output", EVALUATION]
        steps.append(run([*command, *extra], folder))
    return steps


def shell_commands(page: Path, heading: str) -> list[list[str]]:
    """The commands in the `sh` blocks below a heading of a Markdown page, without their comments."""
    text = page.read_text(encoding="utf-8")
    if f"{heading}\n" not in text:
        raise SystemExit(f"{page} has no section {heading!r}")
    section = re.split(r"^## ", text.split(f"{heading}\n", 1)[1], maxsplit=1, flags=re.MULTILINE)[0]
    blocks = re.findall(r"^```sh\n(.*?)^```", section, flags=re.MULTILINE | re.DOTALL)
    commands = [shlex.split(line, comments=True) for block in blocks for line in block.splitlines()]
    return [command for command in commands if command]


def run(command: list[str], folder: Path) -> Step:
    """Run one command with this Python's own `python` and `rlkit` first on the path."""
    shown = shlex.join(command)
    print(f"\n$ {shown}", flush=True)
    scripts = Path(sys.executable).parent
    environment = {**os.environ, "PATH": f"{scripts}{os.pathsep}{os.environ.get('PATH', os.defpath)}"}
    start = time.perf_counter()
    code = subprocess.run(["env", *command], cwd=folder, env=environment).returncode
    seconds = time.perf_counter() - start
    if code:
        raise SystemExit(f"\n{shown} ended with exit code {code} in {folder}")
    print(f"  ({seconds:.1f} s)", flush=True)
    return Step(shown, round(seconds, 1))


def measure(seeds: list[int]) -> None:
    """One journey for each seed; results/journey.json holds what `rlkit eval` found and how long each command took."""
    journeys = []
    for seed in seeds:
        folder = temporary_folder()
        steps = travel(folder, seed=seed)
        journeys.append(journey_result(seed, steps, json.loads((folder / EVALUATION).read_text(encoding="utf-8"))))
    result = {
        "journeys": journeys,
        "within_limits": all(journey["within_limits"] for journey in journeys),
        "limits": {"seconds": LIMIT_S, "gain_points": GAIN_POINTS, "p_value": P_VALUE},
        "machine": {"cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()},
        "versions": {"python": platform.python_version()}
        | {name: version(name) for name in ("rlkit-llm", "torch", "transformers")},
    }
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    print(f"\n{'seed':>4}  {'SFT':>7}  {'PPO':>7}  {'gain':>6}  {'p':>8}  {'seconds':>7}")
    for journey in journeys:
        before, after = (100 * journey[name]["exact_match"] for name in ("sft", "ppo"))
        print(
            f"{journey['seed']:>4}  {before:>5.1f} %  {after:>5.1f} %  {journey['gain_points']:>+6.1f}"
            f"  {journey['p_value']:>8.1g}  {journey['seconds']:>7.0f}"
        )


def journey_result(seed: int, steps: list[Step], evaluation: dict[str, Any]) -> dict[str, Any]:
    """What one journey reached."""
    sft, ppo = (overall(file) for file in evaluation["files"])
    test = evaluation["comparisons"][0]["test"]
    seconds = round(sum(step.seconds for step in steps), 1)
    gain, p_value = round(100 * test["difference"], 2), test["p_value"]
    return {
        "seed": seed,
        "sft": sft,
        "ppo": ppo,
        "gain_points": gain,
        "p_value": p_value,
        "seconds": seconds,
        "within_limits": seconds <= LIMIT_S and gain >= GAIN_POINTS and p_value < P_VALUE,
        "steps": [asdict(step) for step in steps],
    }


def overall(file: dict[str, Any]) -> dict[str, Any]:
    """Exact match over all problems of one completions file, with its interval."""
    summary = file["sources"][0]
    score = summary["score"]
    return {"problems": summary["prompts"], "exact_match": score["mean"], "low": score["low"], "high": score["high"]}


if __name__ == "__main__":
    main()
