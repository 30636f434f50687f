"""What counts as the expected output or value."""

from __future__ import annotations

from typing import Any

import pytest
from rlkit_rewards.code_comparison import same_output, same_value

TOLERANCE = 1e-6


@pytest.mark.parametrize(
    ("actual", "expected", "same"),
    [
        ("3\n", "3", True),
        ("3  \n\n\n", "\n3", True),
        ("1  2\n3\n", "1 2\n3", True),
        ("1\r\n2\r\n", "1\n2", True),
        ("1 2 3", "1 2\n3", False),
        ("1\n2", "1\n2\n3", False),
        ("", "", True),
        ("", "3", False),
        ("Yes", "YES", False),
        ("0.3333333", "0.333333333333", True),
        ("0.34", "0.333333333333", False),
        ("5", "5.0", True),
        ("5.0", "5", False),
        ("1e3", "1000.0", True),
        ("1000000000", "1000000001", False),
        ("nan", "1.5", False),
        ("inf", "1.5", False),
        ("1_0.5", "10.5", True),
        ("x 0.5000000001", "x 0.5", True),
        ("9" * 5000, "1.5", False),
        ("-0.0", "0.0", True),
    ],
)
def test_printed_output(actual: str, expected: str, same: bool) -> None:
    assert same_output(actual, expected, tolerance=TOLERANCE) is same


@pytest.mark.parametrize(
    ("actual", "expected", "same"),
    [
        (3, 3, True),
        (3, 4, False),
        (True, 1, False),
        (1, True, False),
        (True, True, True),
        (0.1 + 0.2, 0.3, True),
        (3, 3.0, True),
        (10**400, 1.5, False),
        (float("nan"), 1.0, False),
        ((1, (2,)), [1, [2]], True),
        ([1], [1, 2], False),
        ({1: [2]}, {"1": [2]}, True),
        ({}, {"1": 2}, False),
        ({10**5000: 2}, {"1": 2}, False),
        ({10**5000: 2}, {"": 2}, False),
        ("3", 3, False),
        (None, None, True),
        ([], None, False),
        ({1, 2}, [1, 2], False),
    ],
)
def test_returned_values(actual: Any, expected: Any, same: bool) -> None:
    assert same_value(actual, expected, tolerance=TOLERANCE) is same


def test_without_a_tolerance_numbers_have_to_be_equal() -> None:
    assert not same_output("0.3333", "0.33333333333", tolerance=0.0)
    assert not same_value(0.3333, 0.33333333333, tolerance=0.0)
