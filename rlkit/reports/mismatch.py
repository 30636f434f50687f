"""How far the trainer's log-probs are from the engine's, token by token.

Both come from the same weights, so every difference is a fault of numerics, or of the engine's or the trainer's setup.
"""

from __future__ import annotations

import heapq
import itertools
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from rlkit.reports.rollout_files import RolloutFile, evenly, token_values, within_tokens

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

MAX_TOKENS, MAX_STEPS = 20_000_000, 480
"""Tokens and steps that are read; of a larger run some steps, spread evenly."""
MAX_COLUMNS = 160
"""Of them those in the picture."""
WORST = 60
WORST_OF_AN_ANSWER = 3
FIRST_POWER, LAST_POWER = -7, 2
BINS_PER_POWER = 2
"""Bins of |difference| in nats: below 10^FIRST_POWER, two for each power of ten, above 10^LAST_POWER."""


@dataclass(frozen=True)
class WorstToken:
    """row: the answer's row in its step's file; position: of the token in the answer; log-probs in nats."""

    step: int
    row: int
    position: int
    token: int
    engine: float
    trainer: float
    learned: bool

    def as_json(self, answer: int | None) -> dict[str, Any]:
        """`answer`: position in the page's answers. The difference apart: it may be far smaller than what is left of its terms."""
        shortened = {name: float(f"{getattr(self, name):.5g}") for name in ("engine", "trainer")}
        difference = float(f"{self.trainer - self.engine:.4g}")
        return {**asdict(self), **shortened, "difference": difference, "answer": answer}


@dataclass(frozen=True)
class Mismatch:
    """counts[bin][column]: sampled tokens of `steps[column]`; quantiles: of |difference| (nats) by step.

    totals: tokens by bin, of every step that was read; tokens: their number; files, read: how many of the run's files those come from.
    """

    steps: tuple[int, ...]
    counts: tuple[tuple[int, ...], ...]
    quantiles: dict[str, tuple[float, ...]]
    worst: tuple[WorstToken, ...]
    totals: tuple[int, ...]
    tokens: int
    files: int
    read: int

    def as_json(self, places: Mapping[tuple[int, int], int]) -> dict[str, Any]:
        """`places`: position in the page's answers of (step, row), where they are among them."""
        quantiles = {name: [float(f"{value:.5g}") for value in values] for name, values in self.quantiles.items()}
        return {
            "steps": self.steps,
            "labels": bin_labels(),
            "counts": self.counts,
            "quantiles": quantiles,
            "worst": [token.as_json(places.get((token.step, token.row))) for token in self.worst],
            "totals": self.totals,
            "tokens": self.tokens,
            "files": self.files,
            "read": self.read,
        }

    def rows_of(self, step: int) -> list[int]:
        """The rows of `step` that hold one of the worst tokens."""
        return sorted({token.row for token in self.worst if token.step == step})


def read_mismatch(files: Sequence[RolloutFile]) -> Mismatch | None:
    """None where the engine's log-probs were not kept."""
    usable = [file for file in files if {"rollout_log_probs", "old_log_probs", "response_ids"} <= file.columns]
    chosen = evenly(within_tokens(usable, MAX_TOKENS), MAX_STEPS)
    pictured = {file.step for file in evenly(chosen, MAX_COLUMNS)}
    steps, counts, quantiles = [], [], []
    worst: list[WorstToken] = []
    totals = [0] * len(bin_labels())
    tokens = read = 0
    for file in chosen:
        found = _compared(file)
        if found is None or not found[0].any():
            continue
        mask, gaps, worst_here = found
        read += 1
        tokens += int(mask.sum())
        worst = worst_of([*worst, *worst_here])
        binned = _bin_counts(gaps[mask])
        totals = [total + count for total, count in zip(totals, binned, strict=True)]
        if file.step in pictured:
            steps.append(file.step)
            counts.append(binned)
            quantiles.append(_quantiles(gaps[mask]))
    if not steps:
        return None
    columns = {name: tuple(row[name] for row in quantiles) for name in quantiles[0]}
    pictures = tuple(zip(*counts, strict=True))
    return Mismatch(tuple(steps), pictures, columns, tuple(worst), tuple(totals), tokens, len(usable), read)


def worst_of(tokens: Sequence[WorstToken]) -> list[WorstToken]:
    """The WORST largest differences, at most WORST_OF_AN_ANSWER from one answer, the largest first."""
    seen: Counter[tuple[int, int]] = Counter()
    kept = []
    for token in sorted(tokens, key=lambda token: -abs(token.trainer - token.engine)):
        seen[token.step, token.row] += 1
        if seen[token.step, token.row] <= WORST_OF_AN_ANSWER:
            kept.append(token)
    return kept[:WORST]


def bin_labels() -> list[str]:
    """Of the bins of |difference|, lowest first."""
    edges = _edges()
    inner = [f"{_written(low)} to {_written(high)}" for low, high in itertools.pairwise(edges)]
    return [f"below {_written(edges[0])}", *inner, f"{_written(edges[-1])} and more"]


def _written(edge: float) -> str:
    return f"{edge:.0f}" if edge >= 1 else f"{edge:.1g}".replace("e-0", "e-")


def _edges() -> list[float]:
    steps = (LAST_POWER - FIRST_POWER) * BINS_PER_POWER
    return [10.0 ** (FIRST_POWER + step / BINS_PER_POWER) for step in range(steps + 1)]


def _compared(file: RolloutFile) -> tuple[NDArray[np.bool_], NDArray[np.float64], list[WorstToken]] | None:
    """Which tokens were sampled, |difference| of all tokens, and the step's worst ones."""
    import numpy as np

    table = file.read(("response_ids", "response_mask", "loss_mask", "rollout_log_probs", "old_log_probs"))
    engine, trainer, ids = (token_values(table, n) for n in ("rollout_log_probs", "old_log_probs", "response_ids"))
    if engine is None or trainer is None or ids is None or len(engine[0]) != len(trainer[0]):
        return None
    known = np.isfinite(engine[0]) & np.isfinite(trainer[0])
    sampled, learned = token_values(table, "response_mask"), token_values(table, "loss_mask")
    mask = known if sampled is None else known & sampled[0].astype(bool)
    gaps = np.where(mask, np.abs(trainer[0].astype(np.float64) - engine[0]), 0.0)
    at = np.nonzero(gaps > 0)[0]
    largest = (
        heapq.nlargest(WORST, at.tolist(), key=gaps.__getitem__)
        if len(at) <= 4 * WORST
        else (np.argpartition(gaps, -4 * WORST)[-4 * WORST :].tolist())
    )
    worst = []
    for token in largest:
        row = int(np.searchsorted(ids[1], token, side="right")) - 1
        worst.append(
            WorstToken(
                file.step, row, int(token - ids[1][row]), int(ids[0][token]), float(engine[0][token]),
                float(trainer[0][token]), True if learned is None else bool(learned[0][token]),
            )
        )  # fmt: skip
    return mask, gaps, worst_of(worst)


def _bin_counts(gaps: NDArray[np.float64]) -> list[int]:
    import numpy as np

    edges = np.asarray(_edges())
    counts = np.bincount(np.searchsorted(edges, gaps, side="right"), minlength=len(edges) + 1)
    return [int(count) for count in counts]


def _quantiles(gaps: NDArray[np.float64]) -> dict[str, float]:
    import numpy as np

    median, ninety, ninety_nine = np.quantile(gaps, (0.5, 0.9, 0.99))
    return {
        "mean": float(gaps.mean()),
        "median": float(median),
        "90 %": float(ninety),
        "99 %": float(ninety_nine),
        "largest": float(gaps.max()),
    }
