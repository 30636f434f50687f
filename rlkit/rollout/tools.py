"""Tools: plain Python functions that the policy may call by name."""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from rlkit.errors import ConfigError, RolloutError
from rlkit.plugin.references import describe_error, load_reference
from rlkit.protocols.tokenizer import Tokenizer
from rlkit.rollout.foreign_calls import CallTimeoutError, ForeignCalls
from rlkit.rollout.tool_calls import BrokenCall, ToolCall

CHARACTERS_A_TOKEN = 32
"""More than any tokenizer puts into a token on average: a longer result is cut before it is encoded."""


@dataclass(frozen=True)
class Tool:
    """One function, and the JSON schema under which chat templates show it to the model."""

    name: str
    function: Callable[..., Any]
    schema: Mapping[str, Any]


@dataclass(frozen=True)
class ToolResult:
    """What came of a call, for the model to read. is_error: the call failed; is_cut: only the beginning is left."""

    text: str
    is_error: bool = False
    is_cut: bool = False


def load_tools(references: Sequence[str], *, section: str = "rollout") -> tuple[Tool, ...]:
    """The functions at `references`, with schemas made of their signatures and docstrings.

    section: names the config section, for messages.

    Raises `PluginError` for one that cannot be imported and `ConfigError` for one that is no tool.
    """
    tools = [_tool_of(reference, section) for reference in references]
    names = [tool.name for tool in tools]
    for name in names:
        if names.count(name) > 1:
            raise ConfigError(
                f"{section}.tools has two functions called {name!r}; the model calls them by name: rename one"
            )
    return tuple(tools)


def _tool_of(reference: str, section: str) -> Tool:
    from transformers.utils import get_json_schema

    function = load_reference(reference)
    if not inspect.isfunction(function):
        raise ConfigError(f"{section}.tools: '{reference}' is a {type(function).__name__}, not a function")
    if inspect.iscoroutinefunction(function):
        raise ConfigError(
            f"{section}.tools: '{reference}' is async; give a plain function (it may use asyncio.run inside)"
        )
    try:
        schema = get_json_schema(function)
    except Exception as error:
        # What the schema is made of is the user's own text: any fault in it means the same.
        raise ConfigError(
            f"{section}.tools: '{reference}' does not describe itself ({describe_error(error)}); give it type hints and "
            "a docstring with a summary and a section 'Args:' that has a line for each argument"
        ) from error
    return Tool(function.__name__, function, schema)


@dataclass(frozen=True, eq=False)
class Toolbox:
    """The tools of a run, ready to be called; by several threads at once."""

    tools: tuple[Tool, ...]
    calls: ForeignCalls

    @property
    def schemas(self) -> tuple[Mapping[str, Any], ...]:
        return tuple(tool.schema for tool in self.tools)

    def run(self, call: ToolCall | BrokenCall) -> ToolResult:
        """The result, or in words what was wrong with the call: the model shall be able to do better."""
        if isinstance(call, BrokenCall):
            return _failed(call.reason)
        tool = next((tool for tool in self.tools if tool.name == call.name), None)
        if tool is None:
            return _failed(f"there is no tool {call.name!r}; tools: {', '.join(tool.name for tool in self.tools)}")
        try:
            inspect.signature(tool.function).bind(**call.arguments)
        except TypeError as error:
            return _failed(f"{tool.name}: {error}")
        try:
            return ToolResult(_as_text(self.calls.call(lambda: tool.function(**call.arguments), tool.name)))
        except CallTimeoutError as error:
            return _failed(f"{tool.name}: {error}")
        except RolloutError:
            raise
        # SystemExit too: a tool that calls sys.exit() has failed, and the run goes on.
        except (Exception, SystemExit) as error:
            return _failed(describe_error(error))


def shortened(result: ToolResult, tokenizer: Tokenizer, max_tokens: int) -> ToolResult:
    """`result`, of which at most the first `max_tokens` tokens are left; a note then says how much is missing."""
    text, limit = result.text, CHARACTERS_A_TOKEN * max_tokens
    ids = tokenizer.encode(text[:limit], add_special_tokens=False)
    if len(ids) <= max_tokens and len(text) <= limit:
        return result
    # A token may end in the middle of a character.
    shown = tokenizer.decode(ids[:max_tokens], skip_special_tokens=False).rstrip("\ufffd")
    return replace(result, text=f"{shown}\n[{len(text) - len(shown)} characters left out]", is_cut=True)


def _failed(reason: str) -> ToolResult:
    return ToolResult(f"Error: {reason}", is_error=True)


def _as_text(value: object) -> str:
    if isinstance(value, str):
        return value
    try:
        return json.dumps(value, ensure_ascii=False, default=str)
    except (TypeError, ValueError):
        return str(value)
