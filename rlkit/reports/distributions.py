"""How the rewards of each step, and their named parts, are distributed."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from rlkit.reports.finite import is_drawable
from rlkit.reports.reward_parts import parse_parts
from rlkit.reports.rollout_files import RolloutFile, evenly

MAX_COLUMNS = 160
"""Steps in the picture."""
MAX_BINS = 16
MAX_LEVELS = 12
"""Up to so many different values, each has a row of its own in the picture; more are put into bins."""
MAX_PARTS = 12
REWARD = "reward"


@dataclass(frozen=True)
class Distribution:
    """shares[row][column]: share of the answers of `steps[column]` whose value lies in `labels[row]`, lowest first."""

    name: str
    steps: tuple[int, ...]
    labels: tuple[str, ...]
    shares: tuple[tuple[float, ...], ...]

    def as_json(self) -> dict[str, Any]:
        shares = [[round(share, 4) for share in row] for row in self.shares]
        return {"name": self.name, "steps": self.steps, "labels": self.labels, "shares": shares}


def read_distributions(files: Sequence[RolloutFile]) -> list[Distribution]:
    """That of the reward, then those of its parts, unless the only part is the reward itself; empty without rollouts."""
    steps: dict[str, list[tuple[int, list[float]]]] = {}
    for file in evenly(files, MAX_COLUMNS):
        for name, values in _values(file).items():
            steps.setdefault(name, []).append((file.step, values))
    made = [_distribution(name, columns) for name, columns in steps.items()]
    return made[:1] if len(made) == 2 and _same(made[0], made[1]) else made[: MAX_PARTS + 1]


def _distribution(name: str, columns: Sequence[tuple[int, list[float]]]) -> Distribution:
    levels = sorted({value for _, values in columns for value in values})
    if len(levels) <= MAX_LEVELS:
        edges, labels = levels[1:], tuple(f"{level:.4g}" for level in levels)
    else:
        bounds = round_bounds(levels[0], levels[-1])
        edges, labels = bounds[1:-1], tuple(f"{a:.4g} to {b:.4g}" for a, b in itertools.pairwise(bounds))
    shares = [_shares(values, edges) for _, values in columns]
    return Distribution(name, tuple(step for step, _ in columns), labels, tuple(zip(*shares, strict=True)))


def round_bounds(low: float, high: float) -> list[float]:
    """Bounds of at most MAX_BINS equal bins that hold everything from `low` to `high` (apart) and begin and end at round numbers."""
    power = 10.0 ** math.floor(math.log10((high - low) / MAX_BINS))
    for width in (factor * power for factor in (1, 2, 2.5, 5, 10, 20)):
        first, last = math.floor(low / width), math.ceil(high / width)
        if last - first <= MAX_BINS:
            break
    return [round(position * width, 12) for position in range(first, last + 1)]


def _shares(values: Sequence[float], edges: Sequence[float]) -> list[float]:
    counts = [0] * (len(edges) + 1)
    for value in values:
        counts[sum(value >= edge for edge in edges)] += 1
    return [count / len(values) for count in counts]


def _values(file: RolloutFile) -> dict[str, list[float]]:
    """Of each of the reward and its parts, the values of a step's judged answers; the reward first."""
    values: dict[str, list[float]] = {REWARD: []}
    for row in file.read(("score", "parts", "error")).to_pylist():
        if row.get("error"):
            continue
        score = row.get("score")
        if is_drawable(score):
            values[REWARD].append(score)
        for name, value in parse_parts(row.get("parts")).items():
            values.setdefault(f"part {name}", []).append(value)
    return {name: found for name, found in values.items() if found}


def _same(first: Distribution, second: Distribution) -> bool:
    return (first.steps, first.labels, first.shares) == (second.steps, second.labels, second.shares)
