"""Programs compared step by step: each in a process of its own, one at work at a time, in turns.

A machine that others use too is slow for minutes and fast for minutes; two programs that do their steps in turns meet the
same minutes, so the ratio of one pair of steps says something where a time says nothing, and the median of many pairs says
it reliably. This file is both ends: `Side` is the referee's handle on a program, `Turns` what the program calls.
"""

from __future__ import annotations

import json
import os
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any


class Turns:
    """In the program: `finished` ends a step, reports it and waits for the next turn. Anything printed goes to stderr."""

    def __init__(self) -> None:
        self._reports = os.fdopen(os.dup(1), "w", buffering=1)
        os.dup2(2, 1)
        self._started: tuple[float, float] | None = None

    def finished(self, **numbers: float) -> None:
        """One step is done. Never returns when the referee has seen enough."""
        wall, cpu = time.perf_counter(), time.process_time()
        if self._started is not None:
            numbers |= {"seconds": wall - self._started[0], "cpu_seconds": cpu - self._started[1]}
        print(json.dumps(numbers), file=self._reports)
        if sys.stdin.readline().strip() != "go":
            peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
            print(json.dumps({"peak_bytes": peak}), file=self._reports)
            os._exit(0)
        self._started = (time.perf_counter(), time.process_time())


class Side:
    """A program under way. Its first step, start-up included, is its warm-up and not counted."""

    def __init__(self, name: str, command: Sequence[str], log: Path, threads: int) -> None:
        self.name = name
        self.log = log
        self.steps: list[dict[str, float]] = []
        environment = {
            **os.environ,
            "OMP_NUM_THREADS": str(threads),
            "TOKENIZERS_PARALLELISM": "false",
            "HF_HUB_OFFLINE": "1",
        }
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log.open("w", encoding="utf-8"),
            text=True,
            env=environment,
        )
        self.warm_up = self._report()

    def step(self) -> None:
        self._say("go")
        self.steps.append(self._report())

    def end(self) -> int:
        """Ends the program; the most memory it ever held, in bytes."""
        self._say("end")
        peak = int(self._report()["peak_bytes"])
        self._process.wait()
        return peak

    def kill(self) -> None:
        if self._process.poll() is None:
            self._process.kill()
            self._process.wait()

    def _say(self, word: str) -> None:
        assert self._process.stdin is not None
        print(word, file=self._process.stdin, flush=True)

    def _report(self) -> dict[str, float]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            lines = self.log.read_text(encoding="utf-8").splitlines()[-25:]
            raise SystemExit("\n".join([f"{self.name} stopped; its last words:", *lines]))
        report: dict[str, float] = json.loads(line)
        return report


def take_turns(commands: Mapping[str, Sequence[str]], logs: Path, *, rounds: int, threads: int) -> list[dict[str, Any]]:
    """Start one side after the other, then `rounds` times a step of each, every other round in the opposite order."""
    sides: list[Side] = []
    try:
        for name, command in commands.items():
            sides.append(Side(name, command, logs / f"{name}.log", threads))
            print(f"{name} is ready", file=sys.stderr)
        for number in range(rounds):
            for side in sides if number % 2 == 0 else sides[::-1]:
                side.step()
            times = "  ".join(f"{side.name} {side.steps[-1]['seconds']:.2f}" for side in sides)
            print(f"round {number + 1}: {times}", file=sys.stderr)
        return [
            {"name": side.name, "peak_bytes": side.end(), "warm_up": side.warm_up, "steps": side.steps}
            for side in sides
        ]
    finally:
        for side in sides:
            side.kill()


def paired_ratio(slow: Sequence[float], fast: Sequence[float]) -> dict[str, float]:
    """Median and quartiles of slow / fast, step by step."""
    ratios = sorted(a / b for a, b in zip(slow, fast, strict=True))
    if len(ratios) == 1:
        return {
            "median": round(ratios[0], 3),
            "low_quartile": round(ratios[0], 3),
            "high_quartile": round(ratios[0], 3),
        }
    low, median, high = statistics.quantiles(ratios, n=4, method="inclusive")
    return {"median": round(median, 3), "low_quartile": round(low, 3), "high_quartile": round(high, 3)}


def seconds_per(side: Mapping[str, Any], unit: str, clock: str = "seconds") -> list[float]:
    """Seconds of each step divided by its `unit` (such as tokens); clock `cpu_seconds` counts work instead of waiting."""
    return [step[clock] / step[unit] for step in side["steps"]]


def versions(*names: str) -> dict[str, str]:
    """Of Python and of distributions."""
    import platform
    from importlib.metadata import version

    return {"python": platform.python_version()} | {name: version(name) for name in names}
