"""Prompt files for reinforcement learning, generation and evaluation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rlkit.data.columns import find_prompt_column, find_reference_column, require_column, value_or_none
from rlkit.data.files import read_rows
from rlkit.data.images import has_images, with_images
from rlkit.data.messages import parse_messages, text_of, with_system_prompt
from rlkit.data.rows import Row
from rlkit.errors import DataError
from rlkit.types.prompts import Message, Prompt

DEFAULT_DATA_SOURCE = "default"


@dataclass(frozen=True)
class _Layout:
    """Which columns of a file hold what."""

    prompt: str
    reference: str | None

    @property
    def consumed(self) -> set[str]:
        """Columns that become fields of the prompt; all others stay in `extra`."""
        return {self.prompt, self.reference or "", "data_source", "images"}


def load_prompts(
    paths: Sequence[str], *, prompt_key: str = "", reference_key: str = "", system_prompt: str = "", limit: int = 0
) -> list[Prompt]:
    """The prompts of all `paths` (files, patterns, Hub ids), at most `limit` (0: all), numbered in file order.

    Columns are found by the first row of each file: see `rlkit.data.columns`; a key may be a dotted path. Raises
    `DataError` with file and line for a missing file or column, an empty prompt, or an empty data set.
    """
    layouts: dict[str, _Layout] = {}
    prompts: list[Prompt] = []
    for row_id, row in enumerate(read_rows(paths, limit=limit)):
        layout = layouts.get(row.file)
        if layout is None:
            layout = _Layout(find_prompt_column(row, prompt_key), find_reference_column(row, reference_key))
            layouts[row.file] = layout
        prompts.append(_prompt_of(row, row_id, layout, system_prompt))
    return prompts


def _prompt_of(row: Row, row_id: int, layout: _Layout, system_prompt: str) -> Prompt:
    columns = row.columns
    value = require_column(row, layout.prompt, setting="prompt_key")
    reference = value_or_none(columns, layout.reference) if layout.reference else None
    text: str | None = None
    messages: tuple[Message, ...] = ()
    try:
        if isinstance(value, str):
            text = _with_input(value, columns) if layout.prompt == "instruction" else value
            if not text.strip():
                raise DataError(f"column {layout.prompt!r} is empty")
            if system_prompt:
                text, messages = None, with_system_prompt(({"role": "user", "content": text},), system_prompt)
        else:
            messages, answer = _split_answer(parse_messages(value, layout.prompt), layout.prompt)
            messages = with_system_prompt(messages, system_prompt)
            reference = answer if reference is None else reference
        images = columns.get("images", [])
        given = images if isinstance(images, list) else [images]
        if text is not None and given:
            text, messages = None, ({"role": "user", "content": text},)
        found: tuple[bytes, ...] = ()
        if given or has_images(messages):
            messages, found = with_images(messages, given, Path(row.file).parent)
    except DataError as error:
        raise DataError(f"{row.place}: {error}") from error
    return Prompt(
        row_id=row_id,
        messages=messages,
        text=text,
        reference=reference,
        data_source=str(columns.get("data_source", DEFAULT_DATA_SOURCE)),
        images=found,
        extra={name: value for name, value in columns.items() if name not in layout.consumed},
    )


def _with_input(instruction: str, columns: Mapping[str, Any]) -> str:
    """Alpaca: the instruction and, below it, its input."""
    context = columns.get("input", "")
    return f"{instruction}\n\n{context}" if isinstance(context, str) and context.strip() else instruction


def _split_answer(messages: tuple[Message, ...], column: str) -> tuple[tuple[Message, ...], str | None]:
    """A whole conversation (`messages`) is asked up to its last answer, which becomes the reference."""
    if messages[-1]["role"] != "assistant":
        return messages, None
    if column != "messages":
        raise DataError(
            f"column {column!r} ends with an assistant message; a prompt has to end with what is to be answered"
        )
    if len(messages) == 1:
        raise DataError(f"column {column!r} holds an assistant message only; there is nothing to answer")
    return messages[:-1], text_of(messages[-1])
