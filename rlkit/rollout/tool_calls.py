"""From what a model said to the tool calls in it.

A format is anything with `parse(text) -> ParsedMessage`: those of `FORMATS` by name, others as `file.py:Class`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from rlkit.errors import ConfigError
from rlkit.plugin.references import is_reference, load_reference

NAME_KEYS = ("name", "function")
ARGUMENT_KEYS = ("arguments", "parameters")
"""Under which the formats write what is called and with what; the first is what rlkit says."""
UNREADABLE = (ValueError, RecursionError)
"""What `json.loads` raises; the second for a thousand opening brackets."""


@dataclass(frozen=True)
class ToolCall:
    """`name(**arguments)`"""

    name: str
    arguments: Mapping[str, Any]


@dataclass(frozen=True)
class BrokenCall:
    """Something that was meant as a call and cannot be read; `reason` is one line that helps a model to mend it."""

    text: str
    reason: str


@dataclass(frozen=True)
class ParsedMessage:
    """content: the text without the calls that could be read; calls in the order in which they were made."""

    content: str
    calls: tuple[ToolCall | BrokenCall, ...] = ()


class ToolCallFormat(Protocol):
    """How one family of models writes calls. A class without parameters."""

    def parse(self, text: str) -> ParsedMessage:
        """The calls in one message; `text` has special tokens in it but not the one that ends the turn. Never raises."""
        ...


class HermesFormat:
    """`<tool_call>{"name": ..., "arguments": {...}}</tool_call>`, once or more: Hermes, Qwen 2.5, Qwen 3 and others.

    The last call need not be closed: it may end with the turn.
    """

    _call = re.compile(r"<tool_call>(.*?)(?:</tool_call>|\Z)", re.DOTALL)

    def parse(self, text: str) -> ParsedMessage:
        # Thinking may talk about calls without making them.
        thought, closed, said = text.rpartition("</think>")
        calls = [(match.group(0), read_call(match.group(1))) for match in self._call.finditer(said)]
        for written, call in calls:
            if isinstance(call, ToolCall):
                said = said.replace(written, "", 1)
        content = f"{thought}{closed}{said}"
        return ParsedMessage(content.strip() if calls else content, tuple(call for _, call in calls))


class JSONFormat:
    """A message that is one JSON object `{"name": ..., "parameters": {...}}` or a list of them: Llama 3.1 and later.

    Anything that does not begin like an object with a name is text, not a broken call.
    """

    _opening = re.compile(r"\s*(?:<\|python_tag\|>)?\s*(?=[\[{])")
    _named = re.compile(r'[\[{\s]*"(?:name|function)"')

    def parse(self, text: str) -> ParsedMessage:
        opening = self._opening.match(text)
        if opening is None or self._named.match(text, opening.end()) is None:
            return ParsedMessage(text)
        written = text[opening.end() :]
        try:
            found = json.loads(written)
        except UNREADABLE:
            found = None
        several = found if isinstance(found, list) else None
        calls = (read_call(written),) if several is None else tuple(read_call(json.dumps(item)) for item in several)
        readable = all(isinstance(call, ToolCall) for call in calls)
        return ParsedMessage("" if readable else text, calls)


FORMATS: Mapping[str, type[HermesFormat] | type[JSONFormat]] = {"hermes": HermesFormat, "json": JSONFormat}
"""By the names that `tool_format` takes."""


def find_format(name: str, *, section: str = "rollout") -> ToolCallFormat:
    """The format called `name`, or the one at `file.py:Class`; `section` is the config section. Raises `ConfigError` or `PluginError`."""
    if name in FORMATS:
        return FORMATS[name]()
    if not is_reference(name):
        raise ConfigError(
            f"{section}.tool_format = {name!r} is not known; formats: {', '.join(FORMATS)}, or file.py:Class for your own"
        )
    made = load_reference(name)
    made = made() if isinstance(made, type) else made
    if not callable(getattr(made, "parse", None)):
        raise ConfigError(f"{section}.tool_format = {name!r} has no method parse(text)")
    found: ToolCallFormat = made
    return found


def read_call(written: str) -> ToolCall | BrokenCall:
    """One call written as a JSON object. Arguments may be an object, a string that holds one, or left out."""
    try:
        call = json.loads(written)
    except UNREADABLE as error:
        return BrokenCall(written, f"the call is not valid JSON ({error})")
    if not isinstance(call, dict):
        return BrokenCall(written, "the call is not a JSON object")
    name = next((call[key] for key in NAME_KEYS if isinstance(call.get(key), str)), None)
    if not name:
        return BrokenCall(written, 'the call has no "name"')
    arguments: object = next((call[key] for key in ARGUMENT_KEYS if call.get(key) is not None), {})
    if isinstance(arguments, str):
        try:
            arguments = json.loads(arguments)
        except UNREADABLE:
            return BrokenCall(written, 'the "arguments" of the call are not a JSON object')
    if not isinstance(arguments, dict):
        return BrokenCall(written, 'the "arguments" of the call are not a JSON object')
    return ToolCall(name, arguments)
