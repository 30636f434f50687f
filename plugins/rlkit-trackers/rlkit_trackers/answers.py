"""Small tables of answers, to be read by people."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from rlkit.plugin.hookspecs import RunInfo
from rlkit.tracking.run_folder import RunFolder
from rlkit.types import Reward, Rollouts
from rlkit_trackers.tracker import AnswerTable

LONGEST = 2000
"""Characters of a text in a table."""

Row = tuple[str, str, str, float | None, str]


def training_table(
    step: int, rollouts: Rollouts, rewards: Sequence[Reward], responses: Sequence[str], *, rows: int
) -> AnswerTable:
    """At most `rows` answers, evenly spread over the step's."""
    picked = _spread(len(rollouts), rows)
    return AnswerTable(
        "answers/training",
        step,
        tuple(
            (
                _shown(rollouts.prompts[row].question),
                _shown(responses[row]),
                _shown(rollouts.prompts[row].reference),
                rewards[row].score if rewards[row].error is None else None,
                rollouts.finish_reasons[row],
            )
            for row in picked
        ),
    )


def validation_table(run: RunInfo, step: int, *, rows: int) -> AnswerTable | None:
    """At most `rows` prompts' first answers of the validation after `step` steps; None where the run kept none."""
    folder = RunFolder(run.folder).validation
    try:
        lines = (folder / f"step_{step:06d}.jsonl").read_text(encoding="utf-8").splitlines()
        answered = [row for row in map(json.loads, lines) if row.get("completions")]
    except (OSError, ValueError, AttributeError):
        return None
    if not answered:
        return None
    scores = _scores(folder / f"step_{step:06d}.json")
    picked = _spread(len(answered), rows)
    return AnswerTable("answers/validation", step, tuple(_validation_row(answered[row], scores) for row in picked))


def _validation_row(row: dict[str, Any], scores: dict[int, float]) -> Row:
    messages = row.get("messages") or ()
    asked = next((said.get("content") for said in reversed(messages) if said.get("role") == "user"), None)
    first = row["completions"][0]
    return (
        _shown(row.get("prompt") if asked is None else asked),
        _shown(first.get("text")),
        _shown(row.get("reference")),
        scores.get(row.get("row_id", -1)),
        str(first.get("finish_reason", "")),
    )


def _scores(path: Path) -> dict[int, float]:
    """Score of each prompt's first answer by row id, where the validation has written them."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        return {
            int(row): float(scores[0])
            for row, scores in zip(content["row_id"], content["scores"], strict=True)
            if scores and scores[0] is not None
        }
    except (OSError, ValueError, KeyError, TypeError):
        return {}


def markdown(table: AnswerTable, columns: Sequence[str]) -> str:
    """A Markdown table; line breaks and bars inside the texts are kept readable."""
    head = [f"| {' | '.join(columns)} |", f"|{'---|' * len(columns)}"]
    return "\n".join([*head, *(f"| {' | '.join(_cells(row))} |" for row in table.rows)])


def _cells(row: Row) -> Iterator[str]:
    for value in row:
        text = "" if value is None else str(value)
        yield text.replace("|", "\\|").replace("\r", "").replace("\n", "<br>")


def _spread(count: int, rows: int) -> list[int]:
    """`rows` of `count` indices, the first among them."""
    wanted = min(rows, count)
    return [index * count // wanted for index in range(wanted)]


def _shown(value: Any) -> str:
    text = "" if value is None else value if isinstance(value, str) else json.dumps(value, default=str)
    return text if len(text) <= LONGEST else f"{text[:LONGEST]} ..."
