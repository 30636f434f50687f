from __future__ import annotations

import pytest

from rlkit.errors import ConfigError, PluginError
from rlkit.models.tokenizer_making import make_tokenizer
from rlkit.rollout.foreign_calls import ForeignCalls
from rlkit.rollout.tool_calls import ToolCall
from rlkit.rollout.tools import Toolbox, ToolResult, load_tools, shortened

TOOLS = '''
def add(a: int, b: int = 2) -> int:
    """Add two numbers.

    Args:
        a: the first
        b: the second
    """
    return a + b

def untyped(a):
    """Do something.

    Args:
        a: a thing
    """

def undescribed(a: int):
    """Do something."""

async def later():
    """Do something."""

number = 3
'''


@pytest.fixture
def tools(tmp_path):
    (tmp_path / "tools.py").write_text(TOOLS)
    (tmp_path / "more.py").write_text(TOOLS)
    return tmp_path / "tools.py"


def test_the_schema_is_made_of_signature_and_docstring(tools):
    (tool,) = load_tools([f"{tools}:add"])
    function = tool.schema["function"]
    assert (tool.name, function["description"]) == ("add", "Add two numbers.")
    assert function["parameters"]["properties"]["b"] == {"type": "integer", "description": "the second"}
    assert function["parameters"]["required"] == ["a"]


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("untyped", "does not describe itself"),
        ("undescribed", "does not describe itself"),
        ("later", "is async"),
        ("number", "is a int, not a function"),
    ],
)
def test_what_is_no_tool_is_refused_in_one_line(tools, name, reason):
    with pytest.raises(ConfigError, match=reason) as caught:
        load_tools([f"{tools}:{name}"])
    assert "\n" not in str(caught.value) and f"tools.py:{name}" in str(caught.value)


def test_missing_tools_and_two_of_one_name_are_refused(tools):
    with pytest.raises(PluginError, match="has no 'nothing'"):
        load_tools([f"{tools}:nothing"])
    with pytest.raises(ConfigError, match="two functions called 'add'"):
        load_tools([f"{tools}:add", f"{tools.parent}/more.py:add"])


def test_results_are_text_as_it_is_and_everything_else_json():
    values = {"text": "née", "number": 3, "table": {"a": [1, "é"]}, "nothing": None, "odd": {1}}
    results = {}
    for name, value in values.items():

        def give(value=value):
            return value

        tool = type("T", (), {"name": name, "function": staticmethod(give), "schema": {}})
        results[name] = Toolbox((tool,), ForeignCalls(5.0)).run(ToolCall(name, {})).text
    expected = {"text": "née", "number": "3", "table": '{"a": [1, "é"]}', "nothing": "null", "odd": '"{1}"'}
    assert results == expected


@pytest.mark.parametrize(
    ("text", "shown", "left"), [("a" * 10, "a" * 10, 0), ("a" * 11, "a" * 10, 1), ("é" * 9, "é" * 5, 4)]
)
def test_a_result_is_cut_by_tokens_and_never_in_a_character(text, shown, left):
    tokenizer = make_tokenizer("byte", context_length=64)
    result = shortened(ToolResult(text), tokenizer, 10)
    assert result == (
        ToolResult(text) if not left else ToolResult(f"{shown}\n[{left} characters left out]", is_cut=True)
    )


def test_a_half_character_at_the_cut_is_left_out():
    tokenizer = make_tokenizer("byte", context_length=64)
    assert shortened(ToolResult("aé" * 9), tokenizer, 11).text.startswith("aéaéaéa\n[11")
