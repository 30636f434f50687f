"""Rows of several data sets."""

from __future__ import annotations

import json
from typing import Any

import pytest
from rlkit_rewards.code_tests import ProblemTests, TestCase, read_tests

from rlkit.rewards.sandbox import Call, Check, Run
from rlkit.types import Prompt

HUMAN_EVAL = {
    "prompt": "import math\n\ndef f(x):\n    'twice'\n",
    "test": "def check(candidate):\n    assert candidate(2) == 4\n",
    "entry_point": "f",
}


def read(reference: Any = None, text: str = "q", **extra: Any) -> ProblemTests:
    return read_tests(Prompt(0, text=text, reference=reference, extra=extra))


def cases(reference: Any = None, **extra: Any) -> tuple[TestCase, ...]:
    return read(reference, **extra).cases


SCRIPTS = (TestCase(Run("1\n"), "2"), TestCase(Run("2\n"), "3"))
CALLS = (TestCase(Call("f", (1, [2])), 3, or_first=True), TestCase(Call("f", (2, [])), 2, or_first=True))


@pytest.mark.parametrize(
    "reference",
    [
        {"inputs": ["1\n", "2\n"], "outputs": ["2", "3"]},
        json.dumps({"inputs": ["1\n", "2\n"], "outputs": ["2", "3"]}),
        {"inputs": [["1", ""], "2\n"], "outputs": [["2"], 3]},
        [{"input": "1\n", "output": "2"}, {"input": "2\n", "output": "3", "testtype": "stdin"}],
    ],
    ids=["apps", "as text", "lines", "livecodebench"],
)
def test_scripts(reference: Any) -> None:
    assert cases(reference) == SCRIPTS
    assert cases(None, input_output=reference) == SCRIPTS
    assert cases("the solution of a person", input_output=reference) == SCRIPTS
    assert cases(None, extra_info={"tests": reference}) == SCRIPTS


def test_functions_with_arguments() -> None:
    assert cases({"fn_name": "f", "inputs": [[1, [2]], [2, []]], "outputs": [3, 2]}) == CALLS
    assert cases({"fn_name": "f", "inputs": ["1\n[2]", "2\n[]"], "outputs": ["3", "2"]}) == CALLS


def test_functional_tests_of_livecodebench() -> None:
    tests = json.dumps([{"input": "1\n[2]", "output": "3", "testtype": "functional"}])
    (case,) = cases(tests, metadata='{"func_name": "f"}')
    assert (case.task, case.expected) == (Call("f", (1, [2])), 3)
    with pytest.raises(ValueError, match="needs the function's name"):
        read(tests)


def test_human_eval_as_columns_and_as_reference() -> None:
    expected = ProblemTests(
        (TestCase(Check(HUMAN_EVAL["test"], "f", HUMAN_EVAL["prompt"])),), "f", HUMAN_EVAL["prompt"]
    )
    assert read(None, text=HUMAN_EVAL["prompt"], test=HUMAN_EVAL["test"], entry_point="f") == expected
    assert read(HUMAN_EVAL["test"], **{k: v for k, v in HUMAN_EVAL.items() if k != "test"}) == expected
    assert read(HUMAN_EVAL) == expected
    chat = f"Complete this.\n```python\n{HUMAN_EVAL['prompt']}```\n"
    assert read({"test": HUMAN_EVAL["test"], "entry_point": "f"}, text=chat) == expected


def test_asserts() -> None:
    asserts = ["assert f(1) == 2", "assert f(2) == 3"]
    expected = tuple(TestCase(Check(text)) for text in asserts)
    assert cases(asserts) == cases(json.dumps(asserts)) == cases({"assert_case": asserts}) == expected
    assert cases(None, test_list=asserts, test_setup_code="") == expected
    assert cases({"test_list": asserts, "test_setup_code": "import math"})[0] == TestCase(
        Check(asserts[0], "", "import math")
    )
    assert cases("\n".join(asserts)) == (TestCase(Check("\n".join(asserts))),)


@pytest.mark.parametrize("text", ["4", "[1, 2]", "hello", "{not json", "[]"])
def test_any_other_text_is_what_has_to_be_printed(text: str) -> None:
    assert cases(text) == (TestCase(Run(), text),)


def test_a_prompt_that_is_no_code_is_not_put_in_front() -> None:
    assert read(HUMAN_EVAL["test"], text="def f(x):", entry_point="f").before == ""
    assert read(HUMAN_EVAL["test"], text="Write f.", entry_point="f").before == ""


@pytest.mark.parametrize(
    ("reference", "said"),
    [
        (None, "the row has no tests"),
        ("", "the row has no tests"),
        ({"test_list": []}, "list of tests is empty"),
        ({"answer": 3}, r"the reference has no tests \(keys: answer\)"),
        ([], "list of tests is empty"),
        ({"inputs": ["1"], "outputs": []}, "1 inputs and 0 outputs"),
        ({"inputs": [], "outputs": []}, "0 inputs and 0 outputs"),
        ([3], "a test is 3, not an object"),
    ],
)
def test_a_row_without_tests_is_an_error(reference: Any, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        read(reference)
