"""Code that is run: in a sandbox, against the tests of its row."""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

from rlkit.rewards.sandbox import BubblewrapSandbox, Call, Limits, Outcome, RemoteSandbox, Run, Sandbox
from rlkit.types import Reward, Sample
from rlkit_rewards.code_comparison import same_output, same_value
from rlkit_rewards.code_extraction import defines, extract_program
from rlkit_rewards.code_options import CodeOptions
from rlkit_rewards.code_tests import ProblemTests, TestCase, read_tests

OVER_LIMIT = ("memory", "output", "killed")
START_AND_END_S = 5.0
"""Beyond `timeout_s`: starting the sandbox and clearing it away."""


class Code:
    """Score 1 when the program in the answer passes all its tests (or the share that it passes), else 0.

    Parts: passed (share of all tests), compiled, timed_out (a test ran out of time), over_limit (a test ended by memory,
    output, or because the program brought the sandbox down). Raises `SandboxError` where code cannot be run safely.
    """

    judges_apart = True

    def __init__(self, options: CodeOptions) -> None:
        self.options = options
        self.sandbox = _sandbox(options)
        self.answer_timeout_s = options.timeout_s + START_AND_END_S

    def __call__(self, samples: Sequence[Sample]) -> list[Reward]:
        workers = min(len(samples), os.cpu_count() or 1)
        if workers < 2:
            return [self._judge(sample) for sample in samples]
        with ThreadPoolExecutor(workers, thread_name_prefix="code") as pool:
            return list(pool.map(self._judge, samples))

    def close(self) -> None:
        self.sandbox.close()

    def _judge(self, sample: Sample) -> Reward:
        tests = read_tests(sample.prompt)
        program = complete_program(sample.response, tests, block=self.options.block)
        if not program.strip():
            return _reward(0.0, 0.0, [], compiled=False)
        cases = tests.cases[: self.options.max_tests or None]
        passed, outcomes = 0, []
        with closing(self.sandbox.run(program, [case.task for case in cases])) as results:
            for case, outcome in zip(cases, results, strict=True):
                outcomes.append(outcome)
                right = self._is_right(case, outcome)
                passed += right
                if outcome.status == "syntax" or (not right and self.options.score == "all"):
                    break
        share = passed / len(cases)
        score = share if self.options.score == "fraction" else float(passed == len(cases))
        return _reward(score, share, outcomes, compiled=all(outcome.status != "syntax" for outcome in outcomes))

    def _is_right(self, case: TestCase, outcome: Outcome) -> bool:
        if outcome.status != "ok":
            return False
        tolerance = self.options.float_tolerance
        if isinstance(case.task, Run):
            return same_output(outcome.stdout, str(case.expected), tolerance=tolerance)
        if isinstance(case.task, Call):
            expected = case.expected
            wrapped = case.or_first and isinstance(expected, list) and len(expected) == 1
            return same_value(outcome.value, expected, tolerance=tolerance) or (
                wrapped and same_value(outcome.value, expected[0], tolerance=tolerance)
            )
        return True


def complete_program(response: str, tests: ProblemTests, *, block: str) -> str:
    """The program to run: the code in the answer, after the code that the prompt began.

    An answer that goes on where a prompt stopped needs it; one that repeats the function needs its imports and helpers.
    """
    code = extract_program(response, block=block, entry_point=tests.entry_point)
    if not tests.before or not code.strip():
        return code
    return tests.before + ("\n" if defines(code, tests.entry_point) else "") + code


def _reward(score: float, passed: float, outcomes: Sequence[Outcome], *, compiled: bool) -> Reward:
    statuses = {outcome.status for outcome in outcomes}
    parts = {
        "passed": passed,
        "compiled": float(compiled),
        "timed_out": float("timeout" in statuses),
        "over_limit": float(bool(statuses & set(OVER_LIMIT))),
    }
    return Reward(score, parts)


def _sandbox(options: CodeOptions) -> Sandbox:
    limits = Limits(
        wall_s=min(options.test_timeout_s, options.timeout_s),
        cpu_s=options.test_timeout_s,
        total_s=options.timeout_s,
        memory_mib=options.memory_mib,
        processes=options.processes,
        file_mib=options.file_mib,
        tmp_mib=options.tmp_mib,
        output_kib=options.output_kib,
    )
    if options.sandbox == "remote":
        return RemoteSandbox(options.url, limits, protocol=options.protocol, api_key=options.api_key())
    return BubblewrapSandbox(limits, python=options.python, visible=options.visible)
