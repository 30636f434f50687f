"""Sampled answers and how their rewards are distributed, from the rollouts of a run."""

from __future__ import annotations

import itertools
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

MAX_ANSWERS = 600
"""Answers shown on the page, spread evenly over steps and rows."""
MAX_ANSWER_STEPS = 40
MAX_TEXT = 6_000
"""Characters of a question or an answer; the middle of a longer one is left out."""
MAX_COLUMNS = 160
"""Steps in the picture of the distribution."""
BINS = 16
MAX_LEVELS = 12
"""Up to so many different rewards, each has a row of its own in the picture; more are put into bins."""

ANSWER_COLUMNS = (
    "row_id", "group_id", "data_source", "question", "reference", "response", "finish_reason", "score", "parts", "error",
)  # fmt: skip


@dataclass(frozen=True)
class Distribution:
    """shares[row][column]: share of the answers of `steps[column]` whose reward lies in `labels[row]`, lowest first."""

    steps: tuple[int, ...]
    labels: tuple[str, ...]
    shares: tuple[tuple[float, ...], ...]

    def as_json(self) -> dict[str, Any]:
        return {"steps": self.steps, "labels": self.labels, "shares": [[round(x, 4) for x in r] for r in self.shares]}


def rollout_files(folder: Path) -> list[tuple[int, Path]]:
    """The parquet files of a run's `rollouts/`, by step."""
    found = []
    for path in folder.glob("step_*.parquet"):
        number = path.stem.removeprefix("step_")
        if number.isdigit():
            found.append((int(number), path))
    return sorted(found)


def read_answers(files: Sequence[tuple[int, Path]]) -> list[dict[str, Any]]:
    """At most MAX_ANSWERS answers as plain values, in the order of steps; the first and the last step are among them."""
    if not files:
        return []
    chosen = _evenly(files, MAX_ANSWER_STEPS)
    each = max(1, MAX_ANSWERS // len(chosen))
    return [answer for step, path in chosen for answer in _answers_of(step, path, each)]


def read_distribution(files: Sequence[tuple[int, Path]]) -> Distribution | None:
    """How the rewards of each step are distributed; None without rollouts."""
    scores = [(step, _column(path, "score")) for step, path in _evenly(files, MAX_COLUMNS)]
    scores = [(step, values) for step, values in scores if values]
    if not scores:
        return None
    levels = sorted({value for _, values in scores for value in values})
    if len(levels) <= MAX_LEVELS:
        edges, labels = levels[1:], tuple(f"{level:.4g}" for level in levels)
    else:
        width = (levels[-1] - levels[0]) / BINS
        edges = [levels[0] + width * position for position in range(1, BINS)]
        bounds = [levels[0], *edges, levels[-1]]
        labels = tuple(f"{a:.3g} to {b:.3g}" for a, b in itertools.pairwise(bounds))
    columns = [_shares(values, edges) for _, values in scores]
    return Distribution(tuple(step for step, _ in scores), labels, tuple(zip(*columns, strict=True)))


def _shares(values: Sequence[float], edges: Sequence[float]) -> list[float]:
    counts = [0] * (len(edges) + 1)
    for value in values:
        counts[sum(value >= edge for edge in edges)] += 1
    return [count / len(values) for count in counts]


def _answers_of(step: int, path: Path, count: int) -> list[dict[str, Any]]:
    from pyarrow import parquet

    file = parquet.ParquetFile(path)
    present = set(file.schema_arrow.names)
    table = file.read(columns=[name for name in ANSWER_COLUMNS if name in present])
    lengths = _row_lengths(file, "response_ids") if "response_ids" in present else []
    return [
        _answer(step, table.slice(row, 1).to_pylist()[0], lengths[row] if lengths else None)
        for row in _evenly(range(table.num_rows), count)
    ]


def _answer(step: int, row: dict[str, Any], tokens: int | None) -> dict[str, Any]:
    return {
        "step": step,
        "row": row.get("row_id"),
        "group": row.get("group_id"),
        "source": row.get("data_source") or "",
        "question": _shortened(row.get("question") or ""),
        "answer": _shortened(row.get("response") or ""),
        "reference": _shortened(_reference_text(row.get("reference"))),
        "score": row.get("score"),
        "parts": _parts(row.get("parts")),
        "finish": row.get("finish_reason") or "",
        "tokens": tokens,
        "error": row.get("error"),
    }


def _reference_text(encoded: str | None) -> str:
    if encoded is None:
        return ""
    try:
        value = json.loads(encoded)
    except ValueError:
        return encoded
    if value is None:
        return ""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _parts(encoded: str | None) -> dict[str, float]:
    try:
        parts = json.loads(encoded or "{}")
    except ValueError:
        return {}
    return parts if isinstance(parts, dict) else {}


def _shortened(text: str) -> str:
    if len(text) <= MAX_TEXT:
        return text
    half = MAX_TEXT // 2
    return f"{text[:half]}\n[... {len(text) - MAX_TEXT} characters left out ...]\n{text[-half:]}"


def _column(path: Path, name: str) -> list[float]:
    from pyarrow import parquet

    return [value for value in parquet.read_table(path, columns=[name])[name].to_pylist() if value is not None]


def _row_lengths(file: Any, name: str) -> list[int]:
    from pyarrow import compute

    lengths: list[int] = compute.list_value_length(file.read(columns=[name])[name]).to_pylist()
    return lengths


def _evenly(items: Sequence[Any], count: int) -> list[Any]:
    """At most `count` of `items`, evenly spaced, the first and the last among them."""
    if len(items) <= count:
        return list(items)
    if count == 1:
        return [items[-1]]
    return [items[round(position * (len(items) - 1) / (count - 1))] for position in range(count)]
