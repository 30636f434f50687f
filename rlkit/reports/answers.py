"""Sampled answers and how their rewards are distributed, from the rollouts of a run."""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

MAX_ANSWERS = 1_000
"""Answers carried by the page, spread evenly over steps."""
MAX_ANSWER_STEPS = 25
EXTREMES = 3
"""Best and worst answers of a step that are always among them, so many of each."""
MAX_TEXT = 6_000
"""Characters of a question or an answer; the middle of a longer one is left out."""
MAX_COLUMNS = 160
"""Steps in the picture of the distribution."""
MAX_BINS = 16
MAX_LEVELS = 12
"""Up to so many different rewards, each has a row of its own in the picture; more are put into bins."""

ANSWER_COLUMNS = (
    "row_id", "group_id", "data_source", "question", "reference", "response", "conversation", "finish_reason", "score", "parts", "error",
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
    """The readable parquet files of a run's `rollouts/`, by step; one that a crash has spoilt is passed over."""
    found = []
    for path in folder.glob("step_*.parquet"):
        number = path.stem.removeprefix("step_")
        if number.isdigit() and _is_readable(path):
            found.append((int(number), path))
    return sorted(found)


def read_answers(files: Sequence[tuple[int, Path]]) -> list[dict[str, Any]]:
    """At most MAX_ANSWERS answers as plain values, in the order of steps; the first and the last step are among them.

    Each step gives all answers to some of its prompts, and its best and worst ones.
    """
    if not files:
        return []
    chosen = _evenly(files, MAX_ANSWER_STEPS)
    each = max(1, MAX_ANSWERS // len(chosen))
    return [answer for step, path in chosen for answer in _answers_of(step, path, each)]


def read_distribution(files: Sequence[tuple[int, Path]]) -> Distribution | None:
    """How the rewards of each step are distributed; None without rollouts."""
    columns = [(step, _scores(path)) for step, path in _evenly(files, MAX_COLUMNS)]
    columns = [(step, values) for step, values in columns if values]
    if not columns:
        return None
    levels = sorted({value for _, values in columns for value in values})
    if len(levels) <= MAX_LEVELS:
        edges, labels = levels[1:], tuple(f"{level:.4g}" for level in levels)
    else:
        bounds = round_bounds(levels[0], levels[-1])
        edges, labels = bounds[1:-1], tuple(f"{a:.4g} to {b:.4g}" for a, b in itertools.pairwise(bounds))
    shares = [_shares(values, edges) for _, values in columns]
    return Distribution(tuple(step for step, _ in columns), labels, tuple(zip(*shares, strict=True)))


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


def _answers_of(step: int, path: Path, count: int) -> list[dict[str, Any]]:
    from pyarrow import parquet

    file = parquet.ParquetFile(path)
    present = set(file.schema_arrow.names)
    table = file.read(columns=[name for name in ANSWER_COLUMNS if name in present])
    groups = table["group_id"].to_pylist() if "group_id" in present else list(range(table.num_rows))
    scores = table["score"].to_pylist() if "score" in present else []
    lengths = _row_lengths(file, "response_ids") if "response_ids" in present else []
    rows = choose_rows(groups, scores, count)
    answers = table.take(rows).to_pylist()
    return [_answer(step, answer, lengths[row] if lengths else None) for row, answer in zip(rows, answers, strict=True)]


def choose_rows(groups: Sequence[int | None], scores: Sequence[float | None], count: int) -> list[int]:
    """At most `count` rows in order: the EXTREMES best and worst ones, then whole groups, spread evenly.

    groups  each row's group (the answers to one prompt); scores may be empty, and a score may be missing
    """
    if len(groups) <= count:
        return list(range(len(groups)))
    known = [(score, row) for row, score in enumerate(scores) if score is not None]
    extremes = min(EXTREMES, count // 4)
    ranked = [row for _, row in sorted(known)]
    chosen = {*ranked[:extremes], *(ranked[-extremes:] if extremes else ())}
    members: dict[int | None, list[int]] = {}
    for row, group in enumerate(groups):
        members.setdefault(group, []).append(row)
    typical = len(groups) / max(1, len(members))
    room = count - len(chosen)
    for group in _evenly(list(members.values()), max(1, int(room / max(typical, 1.0)))):
        chosen |= set(group[: count - len(chosen)])
    return sorted(chosen)


def _answer(step: int, row: dict[str, Any], tokens: int | None) -> dict[str, Any]:
    return {
        "step": step,
        "row": row.get("row_id"),
        "group": row.get("group_id"),
        "source": row.get("data_source") or "",
        "question": _shortened(row.get("question") or ""),
        "answer": _shortened(_transcript(row.get("conversation")) or row.get("response") or ""),
        "reference": _shortened(_reference_text(row.get("reference"))),
        "score": _finite(row.get("score")),
        "parts": _parts(row.get("parts")),
        "finish": row.get("finish_reason") or "",
        "tokens": tokens,
        "error": row.get("error"),
    }


def _transcript(encoded: str | None) -> str:
    """All turns of a conversation, each below who speaks; empty for an answer of one turn."""
    try:
        messages = json.loads(encoded or "[]")
        return "\n\n".join(f"[{message['role']}]\n{_spoken(message)}" for message in messages)
    except (ValueError, TypeError, KeyError):
        return ""


def _spoken(message: dict[str, Any]) -> str:
    content = message.get("content", "")
    text = content if isinstance(content, str) else json.dumps(content, ensure_ascii=False)
    calls = [call["function"] for call in message.get("tool_calls", ())]
    lines = [f"{call['name']}({json.dumps(call['arguments'], ensure_ascii=False)})" for call in calls]
    return "\n".join(line for line in (text, *lines) if line)


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None


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
    if not isinstance(parts, dict):
        return {}
    return {name: value for name, value in parts.items() if isinstance(value, int | float) and math.isfinite(value)}


def _shortened(text: str) -> str:
    if len(text) <= MAX_TEXT:
        return text
    half = MAX_TEXT // 2
    return f"{text[:half]}\n[... {len(text) - MAX_TEXT} characters left out ...]\n{text[-half:]}"


def _is_readable(path: Path) -> bool:
    import pyarrow as pa
    from pyarrow import parquet

    try:
        parquet.read_metadata(path)
    except (OSError, pa.ArrowException):
        return False
    return True


def _scores(path: Path) -> list[float]:
    from pyarrow import parquet

    if "score" not in parquet.read_schema(path).names:
        return []
    values = parquet.read_table(path, columns=["score"])["score"].to_pylist()
    return [value for value in values if value is not None and math.isfinite(value)]


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
