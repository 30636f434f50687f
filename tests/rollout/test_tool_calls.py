from __future__ import annotations

import pytest

from rlkit.errors import ConfigError, PluginNotFoundError
from rlkit.rollout.tool_calls import BrokenCall, HermesFormat, JSONFormat, ParsedMessage, ToolCall, find_format

ADD = '{"name": "add", "arguments": {"a": 1}}'
CALL = ToolCall("add", {"a": 1})


@pytest.mark.parametrize(
    ("text", "content", "calls"),
    [
        ("no call <b>here</b>", "no call <b>here</b>", ()),
        (f"<tool_call>\n{ADD}\n</tool_call>", "", (CALL,)),
        (f"I add.\n<tool_call>{ADD}</tool_call>", "I add.", (CALL,)),
        (f"<tool_call>{ADD}</tool_call><tool_call>{ADD}</tool_call>", "", (CALL, CALL)),
        (f"<tool_call>{ADD}", "", (CALL,)),
        ('<tool_call>{"name": "now"}</tool_call>', "", (ToolCall("now", {}),)),
        ('<tool_call>{"name": "add", "arguments": "{\\"a\\": 1}"}</tool_call>', "", (CALL,)),
        (f"<think><tool_call>{ADD}</tool_call>?</think>no", f"<think><tool_call>{ADD}</tool_call>?</think>no", ()),
    ],
)
def test_hermes_reads_calls_between_tags(text, content, calls):
    assert HermesFormat().parse(text) == ParsedMessage(content, calls)


@pytest.mark.parametrize(
    ("written", "reason"),
    [
        ("{name: add}", "not valid JSON"),
        ("[1]", "not a JSON object"),
        ('{"arguments": {}}', 'has no "name"'),
        ('{"name": 3}', 'has no "name"'),
        ('{"name": "add", "arguments": [1]}', "are not a JSON object"),
        ('{"name": "add", "arguments": "1 2"}', "are not a JSON object"),
        ("[" * 100_000, "not valid JSON"),
        ("", "not valid JSON"),
    ],
)
def test_an_unreadable_call_says_why_and_stays_in_the_text(written, reason):
    parsed = HermesFormat().parse(f"x <tool_call>{written}</tool_call>")
    assert isinstance(parsed.calls[0], BrokenCall) and reason in parsed.calls[0].reason
    assert "\n" not in parsed.calls[0].reason
    assert parsed.content == f"x <tool_call>{written}</tool_call>"


@pytest.mark.parametrize(
    ("text", "content", "calls"),
    [
        ("the sum is 3", "the sum is 3", ()),
        ('{"answer": 3}', '{"answer": 3}', ()),
        ("[1, 2]", "[1, 2]", ()),
        ('{"name": "add", "parameters": {"a": 1}}', "", (CALL,)),
        ('<|python_tag|>{"name": "add", "parameters": {"a": 1}}', "", (CALL,)),
        ('{"type": "function", "name": "add"}', '{"type": "function", "name": "add"}', ()),
        (f"[{ADD}, {ADD}]", "", (CALL, CALL)),
    ],
)
def test_json_reads_a_message_that_is_a_call(text, content, calls):
    assert JSONFormat().parse(text) == ParsedMessage(content, calls)


def test_json_tells_a_broken_call_from_text():
    parsed = JSONFormat().parse('{"name": "add", "parameters": {"a": 1}')
    assert isinstance(parsed.calls[0], BrokenCall)


def test_formats_are_found_by_name_and_by_file(tmp_path):
    (tmp_path / "mine.py").write_text(
        "from rlkit.rollout.tool_calls import ParsedMessage\nclass Mine:\n    def parse(self, text):\n"
        "        return ParsedMessage('mine')\nother = 3\n"
    )
    assert isinstance(find_format("hermes"), HermesFormat)
    assert find_format(f"{tmp_path}/mine.py:Mine").parse("x") == ParsedMessage("mine")
    with pytest.raises(ConfigError, match=r"rollout.tool_format = 'hermess' is not known; formats: hermes, json"):
        find_format("hermess")
    with pytest.raises(ConfigError, match="has no method parse"):
        find_format(f"{tmp_path}/mine.py:other")
    with pytest.raises(PluginNotFoundError):
        find_format(f"{tmp_path}/mine.py:Nothing")
