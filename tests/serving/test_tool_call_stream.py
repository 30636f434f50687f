from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlkit.rollout.tool_calls import ToolCall
from rlkit.serving.tool_call_stream import Parsed, ToolCallStream

ADD = ToolCall("add", {"a": 1, "b": [2]})
WRITTEN = '<tool_call>\n{"name": "add", "arguments": {"a": 1, "b": [2]}}\n</tool_call>'


def parse(text: str, size: int = 1, *, thinking: bool = False) -> list[Parsed]:
    """What a stream of pieces of `size` characters gives, neighbouring texts joined."""
    stream = ToolCallStream(thinking=thinking)
    parts: list[Parsed] = []
    for start in range(0, len(text), size):
        parts += stream.feed(text[start : start + size])
    parts += stream.finish()
    joined: list[Parsed] = []
    for part in parts:
        if isinstance(part, str) and joined and isinstance(joined[-1], str):
            joined[-1] += part
        else:
            joined.append(part)
    return joined


@pytest.mark.parametrize("size", [1, 3, 1000])
@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("only text < 3 ", ["only text < 3 "]),
        (WRITTEN, [ADD]),
        (f"I add.\n{WRITTEN}\n{WRITTEN}\n", ["I add.", ADD, ADD]),
        (f"{WRITTEN} then text", [ADD, "then text"]),
        (WRITTEN.removesuffix("</tool_call>"), [ADD]),
        ("<tool_call>not JSON</tool_call> x", ["<tool_call>not JSON</tool_call> x"]),
        ('<tool_call>{"arguments": {}}</tool_call>', ['<tool_call>{"arguments": {}}</tool_call>']),
        ('<tool_call>{"name": "add", "argu', ['<tool_call>{"name": "add", "argu']),
        ('<tool_call>{"name": "add", "arguments": "{\\"a\\": 1, \\"b\\": [2]}"}</tool_call>', [ADD]),
        ('<tool_call>{"name": "now"}</tool_call>', [ToolCall("now", {})]),
        (f"<think>maybe {WRITTEN}</think>no", [f"<think>maybe {WRITTEN}</think>no"]),
        (f"<think>yes</think>{WRITTEN}", ["<think>yes</think>", ADD]),
        ("<tool_ca", ["<tool_ca"]),
        ("", []),
    ],
)
def test_text_and_calls_in_order_whatever_the_pieces(text: str, expected: list[Parsed], size: int) -> None:
    assert parse(text, size) == expected


@pytest.mark.parametrize("size", [1, 1000])
def test_a_thought_that_the_prompt_has_opened_makes_no_calls(size: int) -> None:
    text = f"perhaps {WRITTEN}</think>{WRITTEN}"
    assert parse(text, size, thinking=True) == [f"perhaps {WRITTEN}</think>", ADD]


def test_thousands_of_brackets_are_text() -> None:
    text = f"<tool_call>{'[' * 100_000}</tool_call>"
    assert parse(text, 10_000) == [text]


def test_no_part_of_a_mark_leaks() -> None:
    stream = ToolCallStream()
    assert [stream.feed(piece) for piece in ("a ", "<tool", "_call>")] == [["a"], [], []]


@given(st.text(alphabet="ab <>/", max_size=40), st.integers(1, 4))
def test_text_without_calls_comes_out_as_it_went_in(text: str, size: int) -> None:
    assert "".join(str(part) for part in parse(text, size)) == text
