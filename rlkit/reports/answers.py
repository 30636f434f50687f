"""Sampled answers: an index with the numbers of all of them, and blocks of texts that a page unpacks when they are read.

index   columns, one entry for each answer, in the order of steps
blocks  of BLOCK_ANSWERS answers: questions, references, responses, and the tokens of those whose tokens are kept
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from rlkit.reports.choosing import choose_rows, fair_share
from rlkit.reports.finite import is_drawable
from rlkit.reports.packing import BlockWriter
from rlkit.reports.reward_parts import parse_parts
from rlkit.reports.rollout_files import RolloutFile, evenly
from rlkit.reports.token_details import TOKEN_COLUMNS, TokenDetails, mean_differences

if TYPE_CHECKING:
    from pyarrow import Table

MAX_ANSWERS = 20_000
"""Answers carried by a page, spread evenly over steps."""
MAX_ANSWER_STEPS = 2_000
MAX_CHARACTERS = 40_000_000
"""Of all questions and answers together: fewer answers where they are long."""
MAX_TEXT = 12_000
"""Characters of a question or an answer; the middle of a longer one is left out."""
MAX_TOKENS = 500_000
"""Answer tokens that come with their numbers."""
BLOCK_ANSWERS = 250

TEXT_COLUMNS = (
    "row_id", "group_id", "data_source", "question", "reference", "response", "conversation", "finish_reason", "score", "parts", "error",
)  # fmt: skip


@dataclass
class AnswerIndex:
    """The numbers of the answers, by column; blocks[n // BLOCK_ANSWERS] holds the texts of the n-th.

    tokens         response tokens, None where unknown
    mismatch       mean of |trainer's log-prob - engine's| over the sampled tokens, None where unknown
    parts          of each named part of the reward, the values; None where an answer lacks it
    total          answers that the run's files hold
    token_ids      ids that occur in the kept tokens
    places         (step, row of its file) -> position in the columns, of the answers that were asked for
    """

    step: list[int] = field(default_factory=list)
    row: list[int | None] = field(default_factory=list)
    group: list[int | None] = field(default_factory=list)
    source: list[int] = field(default_factory=list)
    finish: list[int] = field(default_factory=list)
    score: list[float | None] = field(default_factory=list)
    tokens: list[int | None] = field(default_factory=list)
    mismatch: list[float | None] = field(default_factory=list)
    detailed: list[int] = field(default_factory=list)
    parts: dict[str, list[float | None]] = field(default_factory=dict)
    sources: dict[str, int] = field(default_factory=dict)
    finishes: dict[str, int] = field(default_factory=dict)
    blocks: list[int] = field(default_factory=list)
    total: int = 0
    token_ids: set[int] = field(default_factory=set)
    places: dict[tuple[int, int], int] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.step)

    def add(self, answer: Mapping[str, Any], tokens: int | None, mismatch: float | None, *, detailed: bool) -> None:
        self.row.append(answer.get("row_id"))
        self.group.append(answer.get("group_id"))
        source, finish = answer.get("data_source") or "", answer.get("finish_reason") or ""
        self.source.append(self.sources.setdefault(source, len(self.sources)))
        self.finish.append(self.finishes.setdefault(finish, len(self.finishes)))
        # The score of an answer that a reward failed on stands for nothing.
        self.score.append(None if answer.get("error") else _short(answer.get("score")))
        self.tokens.append(tokens)
        self.mismatch.append(mismatch)
        self.detailed.append(int(detailed))
        for name, value in parse_parts(answer.get("parts")).items():
            column = self.parts.setdefault(name, [])
            column += [None] * (len(self) - len(column))
            column.append(_short(value))
        self.step.append(answer["step"])

    def as_json(self) -> dict[str, Any]:
        """The columns as the page reads them."""
        for column in self.parts.values():
            column += [None] * (len(self) - len(column))
        names = ("step", "row", "group", "source", "finish", "score", "tokens", "mismatch", "detailed", "parts")
        columns = {name: getattr(self, name) for name in names}
        return {**columns, "sources": list(self.sources), "finishes": list(self.finishes), "blockSize": BLOCK_ANSWERS}


def write_answers(
    files: Sequence[RolloutFile],
    blocks: BlockWriter,
    *,
    limit: int = MAX_ANSWERS,
    wanted: Callable[[int], Collection[int]] = lambda _step: (),
) -> AnswerIndex:
    """Write the blocks and return the index: at most `limit` answers, the first and the last step among them.

    Each step gives all answers to some of its prompts, its best and worst ones, and the rows that `wanted` names.
    One file is in memory at a time.
    """
    index = AnswerIndex(total=sum(file.rows for file in files))
    chosen = evenly(files, min(MAX_ANSWER_STEPS, limit))
    each = fair_share([file.rows for file in chosen], limit)
    characters = MAX_CHARACTERS // max(1, len(chosen))
    details = TokenDetails(MAX_TOKENS * limit // MAX_ANSWERS // max(1, len(chosen)))
    pending: list[dict[str, Any]] = []
    for file in chosen:
        for answer in _answers_of(file, index, details, each, characters, wanted(file.step)):
            pending.append(answer)
            if len(pending) == BLOCK_ANSWERS:
                index.blocks.append(blocks.add(_block(pending)))
                pending.clear()
    if pending:
        index.blocks.append(blocks.add(_block(pending)))
    return index


def _answers_of(
    file: RolloutFile,
    index: AnswerIndex,
    details: TokenDetails,
    count: int,
    characters: int,
    wanted: Collection[int],
) -> Iterator[dict[str, Any]]:
    table = file.read((*TEXT_COLUMNS, *TOKEN_COLUMNS))
    if not table.num_rows:
        return
    present = set(table.column_names)
    groups = table["group_id"].to_pylist() if "group_id" in present else list(range(table.num_rows))
    scores = table["score"].to_pylist() if "score" in present else []
    count = max(1, min(count, int(characters / max(1.0, _mean_characters(table)))))
    rows = choose_rows(groups, scores, count, wanted=wanted)
    taken = table.take(rows)
    lengths = _row_lengths(taken)
    differences = mean_differences(taken)
    kept = details.of(taken, first=[rows.index(row) for row in wanted if row in rows])
    texts = taken.select([name for name in TEXT_COLUMNS if name in present]).to_pylist()
    for at, answer in enumerate(texts):
        if rows[at] in wanted:
            index.places[file.step, rows[at]] = len(index)
        index.add(
            {**answer, "step": file.step},
            lengths[at] if lengths else None,
            _short(differences[at]) if differences else None,
            detailed=kept[at] is not None,
        )
        tokens = kept[at]
        if tokens is not None:
            index.token_ids.update(tokens["ids"])
        yield {
            "question": _shortened(answer.get("question") or ""),
            "reference": _shortened(_reference_text(answer.get("reference"))),
            "answer": _shortened(_transcript(answer.get("conversation")) or answer.get("response") or ""),
            "error": answer.get("error"),
            "tokens": tokens,
        }


def _block(answers: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Questions and references are shared by the answers of a prompt: each text is there once."""
    texts: dict[str, int] = {}

    def shared(name: str) -> list[int]:
        return [texts.setdefault(answer[name], len(texts)) for answer in answers]

    return {
        "question": shared("question"),
        "reference": shared("reference"),
        "answer": [answer["answer"] for answer in answers],
        "error": [answer["error"] for answer in answers],
        "tokens": [answer["tokens"] for answer in answers],
        "texts": list(texts),
    }


def _mean_characters(table: Table) -> float:
    """Of question and answer, or what stands for them, as the page will hold them."""
    from pyarrow import compute

    total = 0.0
    for name in ("question", "response", "conversation"):
        if name in table.column_names:
            texts = table[name].cast("string")  # a column of nulls only may have no type
            lengths = compute.fill_null(compute.utf8_length(texts), 0)
            total += compute.mean(compute.min_element_wise(lengths, MAX_TEXT)).as_py() or 0.0
    return total


def _row_lengths(table: Table) -> list[int]:
    from pyarrow import compute

    if "response_ids" not in table.column_names or table["response_ids"].null_count:
        return []
    lengths: list[int] = compute.list_value_length(table["response_ids"]).to_pylist()
    return lengths


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


def _short(value: float | None) -> float | None:
    """Five digits; None for what cannot be drawn."""
    return float(f"{value:.5g}") if is_drawable(value) else None


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


def _shortened(text: str) -> str:
    if len(text) <= MAX_TEXT:
        return text
    half = MAX_TEXT // 2
    return f"{text[:half]}\n[... {len(text) - MAX_TEXT} characters left out ...]\n{text[-half:]}"
