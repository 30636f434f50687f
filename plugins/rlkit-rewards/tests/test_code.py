"""Code that is run: scores and parts, on small problems; all of HumanEval where it is at hand."""

from __future__ import annotations

import gzip
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError
from rlkit_rewards.code import Code, complete_program
from rlkit_rewards.code_options import CodeOptions
from rlkit_rewards.code_tests import read_tests

from rlkit.config.reward_sections import RewardSection
from rlkit.plugin import PluginKind
from rlkit.plugin.loader import load_plugin
from rlkit.rewards.sandbox import diagnose_sandbox
from rlkit.rewards.scorer import build_scorer
from rlkit.testing import ContractCheck, ContractContext, contract_checks
from rlkit.types import Prompt, Reward, Sample

needs_sandbox = pytest.mark.skipif(not diagnose_sandbox().works, reason=diagnose_sandbox().detail)
SLOW_MACHINE = {"test_timeout_s": 30.0, "timeout_s": 100.0}

ADD_ONE = {"inputs": ["1\n", "2\n", "30\n"], "outputs": ["2\n", "3\n", "31\n"]}
PROBLEMS: list[dict[str, str]] = [
    {
        "prompt": "import math\n\ndef below(x: float) -> int:\n    '''The largest integer that is not above x.'''\n",
        "canonical_solution": "    return math.floor(x)\n",
        "test": "def check(candidate):\n    assert candidate(1.5) == 1\n    assert candidate(-1.5) == -2\n",
        "entry_point": "below",
    },
    {
        "prompt": (
            "def encode(text: str) -> str:\n    return text[::-1]\n\n"
            "def decode(text: str) -> str:\n    '''The inverse of encode.'''\n"
        ),
        "canonical_solution": "    return text[::-1]\n",
        "test": "def check(candidate):\n    for text in ('', 'ab', 'abc'):\n        assert candidate(encode(text)) == text\n",
        "entry_point": "decode",
    },
    {
        "prompt": "def pairs(n: int) -> dict:\n    '''Maps each i below n to (i, {i}).'''\n",
        "canonical_solution": "    return {i: (i, {i}) for i in range(n)}\n",
        "test": "def check(candidate):\n    assert candidate(0) == {}\n    assert candidate(2) == {0: (0, {0}), 1: (1, {1})}\n",
        "entry_point": "pairs",
    },
]
BREAK: dict[str, Callable[[dict[str, str]], str]] = {
    "returns None": lambda row: "    return None\n",
    "does not compile": lambda row: row["canonical_solution"] + "    return (\n",
    "raises": lambda row: "    raise ValueError\n",
    "is not there": lambda row: "    pass\n\ndel " + row["entry_point"] + "\n",
    "returns itself": lambda row: f"    return {row['entry_point']}\n",
    "leaves": lambda row: "    import os\n    os._exit(0)\n",
}


def sample(response: str, reference: Any = None, **extra: Any) -> Sample:
    return Sample(Prompt(0, text=extra.pop("prompt", "q"), reference=reference, extra=extra), response)


def judge(response: str, reference: Any = None, *, options: dict[str, Any] | None = None, **extra: Any) -> Reward:
    return Code(CodeOptions(**{**SLOW_MACHINE, **(options or {})}))([sample(response, reference, **extra)])[0]


def problem(row: dict[str, str], response: str) -> Sample:
    return sample(response, **row)


@needs_sandbox
class TestScores:
    def test_a_script_that_passes_every_test_scores_1(self) -> None:
        reward = judge("Here:\n```python\nprint(int(input()) + 1)\n```\n", ADD_ONE)
        assert reward == Reward(1.0, {"passed": 1.0, "compiled": 1.0, "timed_out": 0.0, "over_limit": 0.0})

    def test_all_or_the_fraction(self) -> None:
        response = "x = int(input())\nprint(x + 1 if x < 10 else x)"
        assert judge(response, ADD_ONE).score == 0.0
        assert judge(response, ADD_ONE, options={"score": "fraction"}).score == pytest.approx(2 / 3)

    def test_all_stops_at_the_first_failure_and_fraction_goes_on(self) -> None:
        response = "x = int(input())\nprint(x + 1 if x > 1 else x)"
        assert judge(response, ADD_ONE).parts["passed"] == 0.0
        assert judge(response, ADD_ONE, options={"score": "fraction"}).parts["passed"] == pytest.approx(2 / 3)

    def test_only_the_first_tests_may_count(self) -> None:
        response = "x = int(input())\nprint(x + 1 if x < 10 else x)"
        assert judge(response, ADD_ONE, options={"max_tests": 2}).score == 1.0

    def test_functions_are_called(self) -> None:
        tests = {"fn_name": "twoSum", "inputs": [[[2, 7, 11], 9], [[3, 3], 6]], "outputs": [[0, 1], [[0, 1]]]}
        solution = (
            "class Solution:\n    def twoSum(self, numbers, target):\n"
            "        return next((i, j) for j in range(len(numbers)) for i in range(j) if numbers[i] + numbers[j] == target)"
        )
        assert judge(solution, tests).score == 1.0
        assert judge(solution.replace("== target", "!= target"), tests).score == 0.0

    def test_asserts_count_one_by_one(self) -> None:
        tests = ["assert double(2) == 4", "assert double(-1) == -2", "assert double('a') == 'aa'"]
        assert judge("def double(x): return 2 * x", tests).score == 1.0
        options = {"score": "fraction"}
        assert judge("def double(x): return 2 * abs(x)", tests, options=options).score == pytest.approx(1 / 3)

    def test_the_parts_tell_what_went_wrong(self) -> None:
        assert judge("def f(:", ADD_ONE).parts["compiled"] == 0.0
        assert judge("", ADD_ONE).parts == {"passed": 0.0, "compiled": 0.0, "timed_out": 0.0, "over_limit": 0.0}
        endless = judge("while True: pass", ADD_ONE, options={"test_timeout_s": 1.0})
        assert (endless.parts["timed_out"], endless.parts["compiled"]) == (1.0, 1.0)
        assert judge("while True: print('x' * 1000)", ADD_ONE).parts["over_limit"] == 1.0

    def test_a_batch_is_judged_in_order(self) -> None:
        reward = Code(CodeOptions(**SLOW_MACHINE))
        samples = [sample(f"print({number})", "3") for number in range(5)]
        assert [verdict.score for verdict in reward(samples)] == [0.0, 0.0, 0.0, 1.0, 0.0]

    def test_an_interpreters_own_equality_does_not_count(self) -> None:
        liar = "class A:\n    def __eq__(s, o): return True\ndef f(x): return A()"
        assert judge(liar, ["assert f(1) == 2"]).score == 0.0
        assert judge(liar, {"fn_name": "f", "inputs": [[1]], "outputs": [2]}).score == 0.0


@needs_sandbox
class TestSmallHumanEval:
    def test_canonical_solutions_score_1(self) -> None:
        rewards = Code(CodeOptions(**SLOW_MACHINE))([problem(row, row["canonical_solution"]) for row in PROBLEMS])
        assert [reward.score for reward in rewards] == [1.0] * len(PROBLEMS)

    def test_as_whole_functions_in_a_fence_too(self) -> None:
        answers = [f"Sure.\n```python\n{row['prompt']}{row['canonical_solution']}```" for row in PROBLEMS]
        bare = ["```python\n" + re.sub(r"(?s).*(?=def )", "", answer) for answer in answers]  # no imports, no helpers
        rewards = Code(CodeOptions(**SLOW_MACHINE))(
            [problem(row, answer) for form in (answers, bare) for row, answer in zip(PROBLEMS, form, strict=True)]
        )
        assert [reward.score for reward in rewards] == [1.0] * 2 * len(PROBLEMS)

    @pytest.mark.parametrize("change", BREAK)
    def test_broken_variants_score_0(self, change: str) -> None:
        rewards = Code(CodeOptions(**SLOW_MACHINE))([problem(row, BREAK[change](row)) for row in PROBLEMS])
        assert [reward.score for reward in rewards] == [0.0] * len(PROBLEMS)


def human_eval() -> list[dict[str, str]]:
    """All 164 problems; skips without the folder of data sets, which is no part of the project."""
    folder = Path(os.environ.get("RLKIT_SHARED_DATA", Path(__file__).resolve().parents[3].parent / "shared" / "data"))
    if not (folder / "HumanEval.jsonl.gz").is_file():
        pytest.skip(f"no HumanEval.jsonl.gz in {folder} (set RLKIT_SHARED_DATA)")
    with gzip.open(folder / "HumanEval.jsonl.gz", "rt") as lines:
        return [json.loads(line) for line in lines]


@needs_sandbox
@pytest.mark.slow
class TestHumanEval:
    def test_all_canonical_solutions_score_1(self) -> None:
        """How soon: benchmarks/sandbox_humaneval.py."""
        rows = human_eval()
        rewards = Code(CodeOptions())([problem(row, row["canonical_solution"]) for row in rows])
        wrong = [(row["task_id"], r.parts) for row, r in zip(rows, rewards, strict=True) if r.score != 1.0]
        assert (len(rewards), wrong) == (164, [])

    def test_all_score_1_in_the_workers_of_a_run_too(self) -> None:
        """With the options and the number of workers that a run has unless it says otherwise."""
        rows = human_eval()
        with build_scorer(RewardSection(functions=("code",))) as scorer:
            rewards = scorer.score([problem(row, row["canonical_solution"]) for row in rows])
        wrong = [(row["task_id"], r) for row, r in zip(rows, rewards, strict=True) if r.score != 1.0]
        assert (len(rewards), wrong) == (164, [])

    @pytest.mark.parametrize("change", BREAK)
    def test_broken_variants_score_0(self, change: str) -> None:
        rows = human_eval()[::8]
        rewards = Code(CodeOptions(**SLOW_MACHINE))([problem(row, BREAK[change](row)) for row in rows])
        assert [reward.score for reward in rewards] == [0.0] * len(rows)

    def test_answers_that_are_off_by_one_score_0(self) -> None:
        rows = human_eval()
        wrapper = (
            "\n\n_right = {name}\n\ndef {name}(*arguments):\n    value = _right(*arguments)\n"
            "    if isinstance(value, (bool, int, float)): return value + 1\n"
            "    return [value] if not isinstance(value, str) else value + '?'\n"
        )
        samples = [
            problem(row, row["canonical_solution"] + wrapper.format(name=row["entry_point"])) for row in rows[::4]
        ]
        rewards = Code(CodeOptions(**SLOW_MACHINE))(samples)
        assert [reward.score for reward in rewards] == [0.0] * len(samples)

    def test_endless_loops_score_0_in_time(self) -> None:
        rows = human_eval()[:4]
        rewards = Code(CodeOptions(test_timeout_s=1.0))([problem(row, "    while True: pass\n") for row in rows])
        assert [(reward.score, reward.parts["timed_out"]) for reward in rewards] == [(0.0, 1.0)] * 4


@needs_sandbox
@pytest.mark.slow
def test_a_busy_machine_fails_no_right_program() -> None:
    """Twelve workers and five other processes on one core: each program would have been out of time by the clock."""
    source = "import time\nwhile time.process_time() < 0.5: pass\nprint(int(input()) + 1)  # {number}"
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(before)})
    others = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(5)]
    try:
        options = {"code": {"test_timeout_s": 1.5}}
        with build_scorer(RewardSection(functions=("code",), options=options)) as scorer:
            answers = [
                sample(source.format(number=number), {"inputs": ["1"], "outputs": ["2"]}) for number in range(12)
            ]
            rewards = scorer.score(answers)
    finally:
        for other in others:
            other.kill()
            other.wait()
        os.sched_setaffinity(0, before)
    assert [(reward.score, reward.error) for reward in rewards] == [(1.0, None)] * 12


@needs_sandbox
@pytest.mark.slow
@pytest.mark.parametrize("check", contract_checks(PluginKind.REWARD_FUNCTION), ids=lambda check: check.name)
def test_contract(check: ContractCheck, tmp_path: Path) -> None:
    check(ContractContext(plugin=load_plugin(PluginKind.REWARD_FUNCTION, "code"), tmp_path=tmp_path))


def test_the_prompts_code_goes_in_front() -> None:
    row = PROBLEMS[0]
    tests = read_tests(problem(row, "").prompt)
    assert complete_program("    return 1\n", tests, block="last") == row["prompt"] + "    return 1\n"
    whole = "def below(x):\n    return 1\n"
    assert complete_program(whole, tests, block="last") == row["prompt"] + "\n" + whole


def test_the_time_of_an_answer_can_be_asked_for() -> None:
    assert Code(CodeOptions(timeout_s=7.0, sandbox="remote", url="http://127.0.0.1:9")).answer_timeout_s == 12.0


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"sandbox": "remote"}, "url '' is no address"),
        ({"sandbox": "remote", "url": "ftp://x"}, "url 'ftp://x' is no address"),
        ({"sandbox": "remote", "url": "http://u:p@x"}, "name the variable with the key in api_key_env"),
        ({"url": "http://x"}, 'set sandbox = "remote"'),
        ({"sandbox": "remote", "url": "http://x", "python": "p"}, "python and visible belong to"),
        ({"sandbox": "remote", "url": "http://x", "api_key_env": "sk-123"}, "not the name of an environment variable"),
        ({"sandbox": "remote", "url": "http://x", "api_key_env": "NOT_SET_HERE"}, "NOT_SET_HERE, which is not set"),
        ({"sandbox": "remote", "url": "http://x", "api_key_env": "TWO_LINES"}, "TWO_LINES, which holds a line break"),
        ({"score": "half"}, "all"),
        ({"timeout_s": float("inf")}, "finite"),
    ],
)
def test_options_that_do_not_fit_are_refused(
    monkeypatch: pytest.MonkeyPatch, options: dict[str, Any], said: str
) -> None:
    monkeypatch.setenv("TWO_LINES", "sk-1\r\nsk-2")
    with pytest.raises(ValidationError, match=said):
        CodeOptions(**options)
