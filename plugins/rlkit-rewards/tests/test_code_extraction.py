"""Which part of an answer is run."""

from __future__ import annotations

import pytest
from rlkit_rewards.code_extraction import defines, extract_program, fenced_blocks

TWO = "First:\n```python\na = 1\n```\nthen\n```py\nb = 2\n```\nDone."


@pytest.mark.parametrize(
    ("response", "block", "program"),
    [
        ("print(1)", "last", "print(1)"),
        (TWO, "last", "b = 2\n"),
        (TWO, "first", "a = 1\n"),
        (TWO, "whole", TWO),
        ("```\nx\n```", "last", "x\n"),
        ("```Python3\nx\n```", "last", "x\n"),
        ("~~~python\nx\n~~~", "last", "x\n"),
        ("  ```python\n  x\n  ```", "last", "  x\n"),
        ("```python\nx\n```\nOutput:\n```text\n5\n```", "last", "x\n"),
        ("```cpp\nint x;\n```", "last", "int x;\n"),
        ("```python\ncut off", "last", "cut off"),
        ("```python\nx = '''\n```text\n'''\n```", "last", "x = '''\n```text\n'''\n"),
        ("``` python title='a b'\nx\n``` \n", "last", "x\n"),
        ("````python\n```\n````", "last", "```\n"),
        ("<think>```python\nwrong\n```</think>\n```python\nright\n```", "last", "right\n"),
        ("<think>hm</think>print(1)", "last", "print(1)"),
        ("use `print` here", "last", "use `print` here"),
        ("", "last", ""),
        ("```python\n```", "last", ""),
    ],
)
def test_the_program_is_found(response: str, block: str, program: str) -> None:
    assert extract_program(response, block=block) == program


def test_the_last_block_that_defines_the_function_is_preferred() -> None:
    response = "```python\ndef f(x):\n    return x\n```\nTry it:\n```python\nprint(f(1))\n```"
    assert extract_program(response, entry_point="f") == "def f(x):\n    return x\n"
    assert extract_program(response, entry_point="g") == "print(f(1))\n"


@pytest.mark.parametrize(
    ("program", "name", "there"),
    [
        ("def f(x):", "f", True),
        ("async  def f(x):", "f", True),
        ("class f:", "f", True),
        ("f = lambda x: x", "f", True),
        ("    def f(x):", "f", False),
        ("def ff(x):", "f", False),
        ("", "", False),
    ],
)
def test_definitions_at_the_outermost_level_are_seen(program: str, name: str, there: bool) -> None:
    assert defines(program, name) is there


def test_a_hundred_thousand_fences_take_no_time() -> None:
    assert len(fenced_blocks("```\n" * 100_000)) == 50_000


@pytest.mark.parametrize("line", ["```" + "a" * 100_000 + "`", "```" + " " * 100_000 + "`", "~" * 100_000 + "`"])
def test_a_long_line_that_is_nearly_a_fence_takes_no_time(line: str) -> None:
    assert fenced_blocks(line) == []
