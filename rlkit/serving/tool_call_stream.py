"""Tool calls in an answer that arrives in pieces, as Hermes and Qwen models write them (`rlkit.rollout.tool_calls`)."""

from __future__ import annotations

from rlkit.rollout.tool_calls import ToolCall, read_call
from rlkit.serving.stop_text import possible_beginning

CALL, CALL_END = "<tool_call>", "</tool_call>"
THOUGHT, THOUGHT_END = "<think>", "</think>"

Parsed = str | ToolCall


class ToolCallStream:
    """Splits an answer into plain text and calls, in order.

    What may turn out to be the beginning of a call is held back until it is known. A block that is no call stays text, and
    so does everything in a thought; `thinking`: the prompt has opened one. White space beside a call belongs to it.
    """

    def __init__(self, *, thinking: bool = False) -> None:
        self._held = ""
        self._until = THOUGHT_END if thinking else ""  # the mark that ends the block we are in; none: plain text
        self._last_was_call = False

    def feed(self, text: str) -> list[Parsed]:
        """What is certain now, in order; may be empty."""
        self._held += text
        found: list[Parsed] = []
        while (part := self._next()) is not None:
            found += [part] if part else []
        return found

    def finish(self) -> list[Parsed]:
        """The rest. A last call whose end is missing is one all the same when it is whole."""
        rest, self._held = self._held, ""
        if self._until == CALL_END:
            return [_read(rest) or rest]
        return [] if not rest or (self._last_was_call and not rest.strip()) else [rest]

    def _next(self) -> Parsed | None:
        """The next part, empty when only the state has changed, None when more text is needed."""
        if self._until == CALL_END:
            return self._next_call()
        if self._until:
            return self._next_thought()
        return self._next_text()

    def _next_call(self) -> Parsed | None:
        if CALL_END not in self._held:
            return None
        block = self._take(self._held.index(CALL_END) + len(CALL_END))
        self._until = ""
        call = _read(block)
        self._last_was_call = call is not None
        return call or block

    def _next_thought(self) -> str | None:
        end = self._held.find(THOUGHT_END)
        if end >= 0:
            self._until = ""
            return self._take(end + len(THOUGHT_END))
        return self._take(len(self._held) - possible_beginning(self._held, THOUGHT_END)) or None

    def _next_text(self) -> str | None:
        starts = [(self._held.find(mark), mark) for mark in (CALL, THOUGHT) if mark in self._held]
        if not starts:
            certain = len(self._held) - max(possible_beginning(self._held, mark) for mark in (CALL, THOUGHT))
            return self._shown(self._take(len(self._held[:certain].rstrip()))) or None
        start, mark = min(starts)
        text = self._take(start)
        if mark == THOUGHT:
            self._until = THOUGHT_END
            return self._shown(text + self._take(len(THOUGHT)))
        self._until = CALL_END
        return self._shown(text.rstrip())

    def _shown(self, text: str) -> str:
        if self._last_was_call:
            text = text.lstrip()
        self._last_was_call = self._last_was_call and not text
        return text

    def _take(self, count: int) -> str:
        taken, self._held = self._held[:count], self._held[count:]
        return taken


def _read(block: str) -> ToolCall | None:
    try:
        call = read_call(block.removeprefix(CALL).removesuffix(CALL_END))
    except RecursionError:  # thousands of brackets
        return None
    return call if isinstance(call, ToolCall) else None
