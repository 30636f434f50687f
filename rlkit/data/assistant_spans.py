"""Where the assistant speaks in a rendered conversation.

    <|im_start|>user\\nHi<|im_end|>\\n<|im_start|>assistant\\nHello!<|im_end|>\\n
                                                         ^^^^^^^^^^^^^^^^       the span: content and end of turn

A template with {% generation %} blocks says it itself. For all others it is found by rendering:

    start   the conversation before the turn, with the generation prompt, is a prefix of the whole: what follows it is
            what the model will have to say at that place
    end     the conversation up to and with the turn is a prefix of the whole, too

Templates that show an earlier turn in another way than the last one (thinking removed) break the second rule, some that
put thinking into the generation prompt the first one. Then the turn's content is replaced by a marker, rendered again,
and what changed is where the content stands.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rlkit.data.messages import text_of
from rlkit.data.rendering import ChatRenderer, Tools
from rlkit.data.tokens import Span
from rlkit.errors import DataError
from rlkit.types.prompts import Message

MARKER = "\ue000content\ue001"
"""Private-use characters: no tokenizer or template treats them in a special way, and no text should hold them."""


@dataclass(frozen=True)
class Rendered:
    """A rendered conversation and its assistant spans, in order."""

    text: str
    spans: tuple[Span, ...]


def find_assistant_spans(
    renderer: ChatRenderer, messages: Sequence[Message], *, tools: Tools = (), num_context: int = 0
) -> Rendered:
    """Spans of the assistant's turns behind the first `num_context` messages.

    Raises `DataError` when the template does not let them be told apart from the rest.
    """
    turns = [index for index, message in enumerate(messages) if message["role"] == "assistant"]
    learned = [turn for turn in turns if turn >= num_context]
    if not learned:
        raise DataError("there is no assistant message to learn from")
    if renderer.marks_assistant:
        return _spans_of_blocks(renderer, messages, tools, turns, learned)
    finder = _SpanFinder(renderer, messages, tools)
    spans = [finder.span_of(turn) for turn in learned]
    for (_, end), (start, _), turn in zip(spans, spans[1:], learned[1:], strict=False):
        if start < end:
            raise DataError(_undetermined(turn))
    return Rendered(finder.text, tuple(spans))


def _spans_of_blocks(
    renderer: ChatRenderer, messages: Sequence[Message], tools: Tools, turns: list[int], learned: list[int]
) -> Rendered:
    text, blocks = renderer.render_with_blocks(messages, tools=tools)
    if len(blocks) != len(turns):
        if len(learned) == len(turns):
            return Rendered(text, tuple(blocks))
        raise DataError(
            f"the chat template has {len(blocks)} generation blocks for {len(turns)} assistant messages; "
            "which of them belong to the completion cannot be told"
        )
    return Rendered(text, tuple(blocks[len(turns) - len(learned) :]))


class _SpanFinder:
    """Finds turns of one conversation by rendering parts of it."""

    def __init__(self, renderer: ChatRenderer, messages: Sequence[Message], tools: Tools) -> None:
        self._renderer = renderer
        self._messages = messages
        self._tools = tools
        self.text = renderer.render(messages, tools=tools)

    def span_of(self, turn: int) -> Span:
        """Content and end of turn of the assistant message number `turn`."""
        start = self._start_by_prefix(turn)
        end = self._end_by_prefix(turn)
        shown = text_of(self._messages[turn]).strip()
        if start is None or end is None or shown not in self.text[start:end]:
            content = self._content_of(turn)
            start = self._start_by_content(turn, content) if start is None else start
            end = self._end_by_content(turn, content) if end is None else end
            # A thinking block in front of the content may stay out of it; the content's end has to be inside. Of white space
            # alone a template may show nothing.
            if not start + bool(shown) <= content[1] <= end:
                raise DataError(_undetermined(turn))
        return start, self._without_trailing_space(start, end)

    def _start_by_prefix(self, turn: int) -> int | None:
        if turn == 0 or not self._renderer.opens_turns:
            return None
        before = self._render_part(turn, add_generation_prompt=True)
        return len(before) if before is not None and self.text.startswith(before) else None

    def _end_by_prefix(self, turn: int) -> int | None:
        if turn == len(self._messages) - 1:
            return len(self.text)
        through = self._render_part(turn + 1)
        return len(through) if through is not None and self.text.startswith(through) else None

    def _start_by_content(self, turn: int, content: Span) -> int:
        """No header to go by: directly behind what comes before, when only space lies between, else at the content."""
        before = self._render_part(turn) if turn else None
        if before is not None and self.text.startswith(before) and not self.text[len(before) : content[0]].strip():
            return min(len(before), content[0])
        return content[0]

    def _end_by_content(self, turn: int, content: Span) -> int:
        """Behind the content and what follows it both here and where the turn is the last one: its end of turn."""
        last = _SpanFinder(self._renderer, self._messages[: turn + 1], self._tools)
        tail = last.text[last._content_of(turn)[1] :].rstrip()
        return content[1] + len(tail) if self.text.startswith(tail, content[1]) else content[1]

    def _content_of(self, turn: int) -> Span:
        """Where the text changes when the content of `turn` does."""
        message = self._messages[turn]
        marked = dict(message)
        marked["content"] = (
            MARKER if isinstance(message.get("content", ""), str) else [{"type": "text", "text": MARKER}]
        )
        other = self._renderer.render([*self._messages[:turn], marked, *self._messages[turn + 1 :]], tools=self._tools)
        before, found, behind = other.partition(MARKER)
        if not found or MARKER in behind or MARKER in self.text or not self.text.endswith(behind):
            raise DataError(_undetermined(turn))
        # With this content the template may open the turn differently (thinking inside it): what is equal counts.
        start, end = _common_prefix(self.text, before), len(self.text) - len(behind)
        if start > end:
            raise DataError(_undetermined(turn))
        return start, end

    def _render_part(self, count: int, *, add_generation_prompt: bool = False) -> str | None:
        """The first `count` messages; None when the template refuses to show them without the rest."""
        try:
            return self._renderer.render(
                self._messages[:count], tools=self._tools, add_generation_prompt=add_generation_prompt
            )
        except DataError:
            return None

    def _without_trailing_space(self, start: int, end: int) -> int:
        """`end` without the line break that templates put behind the end-of-turn token: the model never says it."""
        said = self.text[start:end]
        trimmed = said.rstrip()
        return start + len(trimmed) if trimmed.endswith(self._renderer.end_tokens) else end


def _common_prefix(left: str, right: str) -> int:
    length = min(len(left), len(right))
    return next((index for index in range(length) if left[index] != right[index]), length)


def _undetermined(turn: int) -> str:
    return (
        f"cannot tell where the chat template puts assistant message {turn + 1} of the conversation; "
        "set model.chat_template to a template that marks it with {% generation %}"
    )
