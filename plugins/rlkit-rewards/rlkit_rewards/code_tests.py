"""A row's tests, in the forms that data sets write them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rlkit.rewards.sandbox import Call, Check, Run, Task
from rlkit.types import Prompt
from rlkit_rewards.code_extraction import defines, fenced_blocks

TEST_COLUMNS = ("input_output", "test_cases", "public_test_cases", "tests", "test_list", "test", "inputs")
"""Columns in which a row may have its tests when the reference holds none; the first present one counts."""
FUNCTION_KEYS = ("fn_name", "func_name", "entry_point")
FORMS = (
    '{"inputs": [...], "outputs": [...]}, [{"input": ..., "output": ...}], ["assert ..."], '
    '{"test": ..., "entry_point": ...}, test code, or the expected output'
)


@dataclass(frozen=True)
class TestCase:
    """One task and what has to come out: the output of a `Run`, the value of a `Call`, None of a `Check`.

    or_first: an expected list of one item also stands for that item (APPS and TACO wrap values).
    """

    __test__ = False  # not a class of tests, whatever pytest thinks

    task: Task
    expected: Any = None
    or_first: bool = False


@dataclass(frozen=True)
class ProblemTests:
    """All tests of a row.

    entry_point  the function that is asked for, or ""
    before       code that the answer goes on with, such as HumanEval's prompt, or ""
    """

    cases: tuple[TestCase, ...]
    entry_point: str = ""
    before: str = ""


def read_tests(prompt: Prompt) -> ProblemTests:
    """The tests of a row: its reference, or a column that has them. Raises `ValueError` when there are none."""
    entry_point = _entry_point(prompt)
    for candidate in (prompt.reference, _from_columns(prompt.extra)):
        content = _parsed(candidate)
        if isinstance(content, Mapping | list | tuple):
            named = _name_in(content) or entry_point
            before = _before(prompt, content, named)
            cases = _cases(content, named, before)
            if not cases:
                raise ValueError(f"the row's list of tests is empty; a reference is one of {FORMS}")
            return ProblemTests(cases, named, before)
        if isinstance(content, str) and ("assert" in content or "def check(" in content):
            before = _before(prompt, None, entry_point)
            return ProblemTests((TestCase(Check(content, entry_point, before)),), entry_point, before)
    if prompt.reference in (None, ""):
        raise ValueError(f"the row has no tests; a reference is one of {FORMS}")
    return ProblemTests((TestCase(Run(), str(prompt.reference)),), entry_point, "")


def _cases(content: Any, entry_point: str, before: str) -> tuple[TestCase, ...]:
    if isinstance(content, Mapping):
        if "inputs" in content and "outputs" in content:
            return _paired(content["inputs"], content["outputs"], _function_of(content))
        for key in ("test_list", "assert_case"):
            if key in content:
                setup = "\n".join(_as_lines(content.get("test_setup_code") or content.get("test_imports") or ""))
                return tuple(TestCase(Check(str(test), "", setup)) for test in content[key])
        if "test" in content:
            return (TestCase(Check(str(content["test"]), entry_point, before)),)
        if "input" in content and "output" in content:
            return _cases([content], entry_point, before)
        keys = ", ".join(map(str, content)) or "none"
        raise ValueError(f"the reference has no tests (keys: {keys}); it is one of {FORMS}")
    if all(isinstance(test, str) for test in content):
        return tuple(TestCase(Check(test)) for test in content)
    return tuple(_single(test, entry_point) for test in content)


def _paired(inputs: Sequence[Any], outputs: Sequence[Any], function: str) -> tuple[TestCase, ...]:
    if len(inputs) != len(outputs) or not inputs:
        raise ValueError(f"the reference has {len(inputs)} inputs and {len(outputs)} outputs; give one for each")
    if not function:
        pairs = zip(inputs, outputs, strict=True)
        return tuple(TestCase(Run(_as_text(given)), _as_text(wanted)) for given, wanted in pairs)
    return tuple(
        TestCase(Call(function, tuple(_arguments(given))), _value(wanted), or_first=True)
        for given, wanted in zip(inputs, outputs, strict=True)
    )


def _single(test: Any, function: str) -> TestCase:
    """One of LiveCodeBench's: `testtype` says whether a script or a function is meant."""
    if not isinstance(test, Mapping) or "input" not in test or "output" not in test:
        raise ValueError(f"a test is {test!r:.60}, not an object with input and output")
    if test.get("testtype") != "functional":
        return TestCase(Run(_as_text(test["input"])), _as_text(test["output"]))
    if not function:
        raise ValueError(f"a functional test needs the function's name: one of the columns {', '.join(FUNCTION_KEYS)}")
    return TestCase(Call(function, tuple(_arguments(test["input"]))), _value(test["output"]))


def _from_columns(extra: Mapping[str, Any]) -> Any:
    columns = {**_mapping(extra.get("extra_info")), **extra}
    for name in TEST_COLUMNS:
        if columns.get(name):
            # Some forms are several columns of the row.
            return dict(columns) if name in ("test_list", "test", "inputs") else columns[name]
    return None


def _entry_point(prompt: Prompt) -> str:
    metadata = _mapping(prompt.extra.get("metadata"))
    extra_info = _mapping(prompt.extra.get("extra_info"))
    return next((name for columns in (prompt.extra, metadata, extra_info) if (name := _function_of(columns))), "")


def _name_in(content: Any) -> str:
    return _function_of(content) if isinstance(content, Mapping) else ""


def _function_of(columns: Mapping[str, Any]) -> str:
    return next((str(columns[key]) for key in FUNCTION_KEYS if columns.get(key)), "")


def _before(prompt: Prompt, content: Any, entry_point: str) -> str:
    """The code that a data set's prompt begins, with imports and helpers: it defines the function and is valid so far."""
    columns = [content if isinstance(content, Mapping) else {}, prompt.extra, _mapping(prompt.extra.get("extra_info"))]
    texts = [columns_.get(key) for columns_ in columns for key in ("prompt", "starter_code")]
    question = prompt.question
    texts += [question, *(text for _, text in fenced_blocks(question))]
    for text in texts:
        if isinstance(text, str) and defines(text, entry_point) and _is_python(text):
            return text
    return ""


def _is_python(text: str) -> bool:
    try:
        compile(text, "prompt", "exec", dont_inherit=True)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return False
    return True


def _parsed(content: Any) -> Any:
    """JSON texts as what they hold; arrays (pyarrow's, numpy's) as lists."""
    if isinstance(content, str) and content.lstrip()[:1] in ("{", "["):
        try:
            parsed = json.loads(content)
        except (ValueError, RecursionError):
            return content
        # A list of numbers, say, is an output to be printed, and no list of tests.
        if isinstance(parsed, Mapping) or (parsed and all(isinstance(test, str | Mapping) for test in parsed)):
            return parsed
        return content
    tolist = getattr(content, "tolist", None)
    return tolist() if callable(tolist) else content


def _mapping(value: Any) -> Mapping[str, Any]:
    parsed = _parsed(value)
    return parsed if isinstance(parsed, Mapping) else {}


def _arguments(given: Any) -> list[Any]:
    """A list of arguments, or one JSON value on each line."""
    if isinstance(given, str):
        return [_value(line) for line in given.split("\n") if line.strip()]
    return list(given) if isinstance(given, list | tuple) else [given]


def _value(text: Any) -> Any:
    if not isinstance(text, str):
        return text
    try:
        return json.loads(text)
    except ValueError:
        return text


def _as_text(content: Any) -> str:
    return "\n".join(_as_lines(content))


def _as_lines(content: Any) -> list[str]:
    return [str(line) for line in content] if isinstance(content, list | tuple) else [str(content)]
