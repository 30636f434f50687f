"""Conversation files for supervised fine-tuning, in every usual row format."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from rlkit.data.columns import has_columns
from rlkit.data.files import read_rows
from rlkit.data.images import has_images
from rlkit.data.messages import parse_messages, with_system_prompt
from rlkit.data.rows import Row
from rlkit.errors import DataError
from rlkit.types.prompts import Message


@dataclass(frozen=True)
class Conversation:
    """One row to learn from: messages, or a plain prompt with its completion.

    place        file and line, for messages to people
    num_context  this many of the messages are only read: assistant turns among them are not learned
    prompt       set, with completion, when the row holds plain strings that no chat template is to touch
    """

    row_id: int
    place: str
    messages: tuple[Message, ...] = ()
    num_context: int = 0
    prompt: str | None = None
    completion: str | None = None
    tools: tuple[Mapping[str, Any], ...] = ()


def load_conversations(
    paths: Sequence[str], *, format: str = "auto", system_prompt: str = "", limit: int = 0
) -> list[Conversation]:
    """The conversations of all `paths` (files, patterns, Hub ids), at most `limit` (0: all), numbered in file order.

    `auto` finds the format by the columns of each file's first row. Raises `DataError` with file and line for a row
    that does not fit the format, and for an empty data set.
    """
    formats: dict[str, str] = {}
    conversations: list[Conversation] = []
    for row_id, row in enumerate(read_rows(paths, limit=limit)):
        if row.file not in formats:
            formats[row.file] = detect_format(row) if format == "auto" else format
        conversations.append(_conversation_of(row, row_id, formats[row.file], system_prompt))
    return conversations


def detect_format(row: Row) -> str:
    """The format whose columns the row has. Raises `DataError` listing its columns when there is none."""
    for name, columns in REQUIRED_COLUMNS.items():
        if has_columns(row, columns):
            return name
    known = "; ".join(f"{name}: {', '.join(columns)}" for name, columns in REQUIRED_COLUMNS.items())
    raise DataError(f"{row.place}: columns {', '.join(map(str, row.columns))} fit no known format ({known})")


def _conversation_of(row: Row, row_id: int, name: str, system_prompt: str) -> Conversation:
    missing = [column for column in REQUIRED_COLUMNS[name] if column not in row.columns]
    if missing:
        found = ", ".join(map(str, row.columns)) or "(none)"
        raise DataError(f"{row.place}: no column {missing[0]!r}, which format {name!r} needs; columns: {found}")
    try:
        parsed = _PARSERS[name](Conversation(row_id, row.place), row.columns)
        tools = row.columns.get("tools", [])
        if not isinstance(tools, list) or not all(isinstance(tool, Mapping) for tool in tools):
            raise DataError("column 'tools' should hold a list of tool descriptions")
        if row.columns.get("images") or has_images(parsed.messages):
            raise DataError("the conversation has images, and fine-tuning takes text only; leave such rows out")
    except DataError as error:
        raise DataError(f"{row.place}: {error}") from error
    messages = with_system_prompt(parsed.messages, system_prompt) if parsed.messages else ()
    added = len(messages) - len(parsed.messages)
    num_context = parsed.num_context + added if parsed.num_context else 0
    return replace(parsed, messages=messages, num_context=num_context, tools=tuple(tools))


def _parse_messages(blank: Conversation, columns: Mapping[str, Any]) -> Conversation:
    return replace(blank, messages=parse_messages(columns["messages"], "messages"))


def _parse_sharegpt(blank: Conversation, columns: Mapping[str, Any]) -> Conversation:
    messages = parse_messages(columns["conversations"], "conversations")
    return replace(blank, messages=with_system_prompt(messages, _text(columns, "system")))


def _parse_prompt_completion(blank: Conversation, columns: Mapping[str, Any]) -> Conversation:
    prompt, completion = columns["prompt"], columns["completion"]
    if isinstance(prompt, str):
        if not isinstance(completion, str):
            raise DataError("column 'prompt' holds a string, so 'completion' should hold one, too")
        if not completion:
            raise DataError("column 'completion' is empty; there is nothing to learn")
        return replace(blank, prompt=prompt, completion=completion)
    context = parse_messages(prompt, "prompt")
    if isinstance(completion, str):
        answer: tuple[Message, ...] = ({"role": "assistant", "content": completion},)
    else:
        answer = parse_messages(completion, "completion")
    return replace(blank, messages=(*context, *answer), num_context=len(context))


def _parse_alpaca(blank: Conversation, columns: Mapping[str, Any]) -> Conversation:
    instruction, context = _text(columns, "instruction"), _text(columns, "input")
    if not instruction.strip():
        raise DataError("column 'instruction' is empty")
    messages: list[Message] = []
    for turn in columns.get("history", []):
        if not isinstance(turn, list) or len(turn) != 2 or not all(isinstance(text, str) for text in turn):
            raise DataError("column 'history' should hold pairs of question and answer")
        messages += [{"role": "user", "content": turn[0]}, {"role": "assistant", "content": turn[1]}]
    question = f"{instruction}\n\n{context}" if context.strip() else instruction
    messages += [{"role": "user", "content": question}, {"role": "assistant", "content": _text(columns, "output")}]
    return replace(blank, messages=with_system_prompt(tuple(messages), _text(columns, "system")))


def _parse_question_answer(blank: Conversation, columns: Mapping[str, Any]) -> Conversation:
    question, answer = _text(columns, "question"), _text(columns, "answer")
    if not question.strip():
        raise DataError("column 'question' is empty")
    return replace(blank, messages=({"role": "user", "content": question}, {"role": "assistant", "content": answer}))


def _text(columns: Mapping[str, Any], name: str) -> str:
    value = columns.get(name, "")
    if not isinstance(value, str):
        raise DataError(f"column {name!r} should hold text, got {type(value).__name__}")
    return value


REQUIRED_COLUMNS: dict[str, tuple[str, ...]] = {
    "messages": ("messages",),
    "sharegpt": ("conversations",),
    "prompt_completion": ("prompt", "completion"),
    "alpaca": ("instruction", "output"),
    "question_answer": ("question", "answer"),
}
"""Columns that a row of each format has; detection tries them in this order."""

_PARSERS: dict[str, Callable[[Conversation, Mapping[str, Any]], Conversation]] = {
    "messages": _parse_messages,
    "sharegpt": _parse_sharegpt,
    "prompt_completion": _parse_prompt_completion,
    "alpaca": _parse_alpaca,
    "question_answer": _parse_question_answer,
}
