"""The reward contract is worth something only if it fails for functions with a fault: each check meets one."""

from __future__ import annotations

from typing import Any

import pytest

from rlkit.plugin import PluginKind, PluginSpec
from rlkit.plugin.loader import LoadedPlugin
from rlkit.testing import ContractContext
from rlkit.testing.contracts import reward_function as contract


def good(response: str, reference: str) -> float:
    return float(reference in response)


def ranks_within_the_batch(samples: list[Any]) -> list[float]:
    lengths = sorted(len(sample.response) for sample in samples)
    return [float(lengths.index(len(sample.response))) for sample in samples]


def one_too_few(samples: list[Any]) -> list[float]:
    return [0.0] * (len(samples) - 1)


class fails_on_nothing:
    def __call__(self, samples: list[Any]) -> list[float]:
        best = max(len(sample.response) for sample in samples)
        return [float(best >= 0)] * len(samples)


class counts_calls:
    calls = 0

    def __call__(self, response: str) -> float:
        counts_calls.calls += 1
        return float(counts_calls.calls)


def reads_numbers(response: str) -> float:
    if response in contract.RESPONSES:
        return 0.0
    return float(int(response))


def gives_nan(response: str) -> float:
    return float("nan") if not response.strip() else 0.0


def changes_extra(sample: Any) -> float:
    sample.prompt.extra["seen"] = True
    return 0.0


def context(target: Any, tmp_path: Any) -> ContractContext:
    spec = PluginSpec(kind=PluginKind.REWARD_FUNCTION, target="m:t", summary="A test.")
    return ContractContext(LoadedPlugin(spec.kind, "acme", spec, "acme", "1.0", target, None), tmp_path)


@pytest.mark.parametrize("check", contract.CHECKS, ids=lambda check: check.__name__)
def test_a_good_function_passes(check, tmp_path):
    check(context(good, tmp_path))


@pytest.mark.parametrize(
    ("check", "target"),
    [
        (contract.verdicts_match_the_answers, ranks_within_the_batch),
        (contract.verdicts_match_the_answers, one_too_few),
        (contract.an_empty_batch_is_fine, fails_on_nothing),
        (contract.the_same_answer_gets_the_same_verdict, counts_calls),
        (contract.awkward_answers_are_judged_too, reads_numbers),
        (contract.awkward_answers_are_judged_too, gives_nan),
        (contract.the_samples_are_left_alone, changes_extra),
    ],
    ids=lambda value: value.__name__,
)
def test_a_fault_is_found(check, target, tmp_path):
    # What the function raises, or what rlkit makes of its answers, comes out as it is.
    with pytest.raises((AssertionError, ValueError)):
        check(context(target, tmp_path))


def test_every_check_has_met_a_fault():
    marks = test_a_fault_is_found.pytestmark  # type: ignore[attr-defined]
    assert {check for check, _ in marks[0].args[1]} == set(contract.CHECKS)
