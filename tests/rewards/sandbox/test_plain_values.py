"""Only plain data gets across."""

from __future__ import annotations

import enum
import json
import math
from collections import Counter, namedtuple
from typing import Any

import numpy as np
import pytest

from rlkit.rewards.sandbox.inside.plain_values import NotPlainError, decode, encode


class Colour(enum.IntEnum):
    RED = 3


class EqualToAll(str):
    def __eq__(self, other: object) -> bool:
        return True

    __hash__ = str.__hash__


Pair = namedtuple("Pair", "a b")


def across(value: Any) -> Any:
    return decode(json.loads(json.dumps(encode(value))))


@pytest.mark.parametrize(
    "value",
    [
        None,
        True,
        0,
        -(2**53),
        2**200,
        -(10**5000),
        1.5,
        -0.0,
        math.inf,
        "",
        "\ud800\x00é",
        [],
        [[1], (2, (3,)), {4}, frozenset({5})],
        {"a": 1, 2: [3], (4, 5): None},
        b"\x00\xff",
        1 + 2j,
    ],
    ids=lambda value: repr(value)[:30] if not isinstance(value, int) else "",
)
def test_plain_data_arrives_as_it_was(value: Any) -> None:
    arrived = across(value)
    assert arrived == value
    assert type(arrived) is type(value)


def test_not_a_number_arrives() -> None:
    assert math.isnan(across(math.nan))


@pytest.mark.parametrize(
    ("value", "plain"),
    [(Colour.RED, 3), (EqualToAll("x"), "x"), (Pair(1, 2), (1, 2)), (Counter("aab"), {"a": 2, "b": 1})],
)
def test_a_subclass_arrives_as_the_type_that_it_stands_on(value: Any, plain: Any) -> None:
    arrived = across(value)
    assert type(arrived) is type(plain)
    assert arrived == plain
    assert arrived != "something else"


def test_arrays_arrive_as_lists() -> None:
    assert across(np.array([[1, 2]])) == [[1, 2]]
    assert across(np.float32(0.5)) == 0.5


def test_an_object_does_not_get_across() -> None:
    with pytest.raises(NotPlainError, match="object is not plain"):
        encode([object()])


def test_an_object_may_stay_behind_under_a_number() -> None:
    assert encode([object()], lambda _: 7) == [{"h": 7}]
    assert decode({"h": 7}, lambda number: f"object {number}") == "object 7"


def test_data_that_holds_itself_is_refused() -> None:
    endless: list[Any] = []
    endless.append(endless)
    with pytest.raises(RecursionError):
        encode(endless)


@pytest.mark.parametrize(
    "message",
    [{}, {"q": 1}, {"t": [], "s": []}, {"h": 1}, {"x": "zz"}, {"b": "0"}, {"d": [[1, 2, 3]]}, {"c": []}, {"s": [[]]}],
    ids=str,
)
def test_a_message_of_another_kind_is_refused(message: Any) -> None:
    with pytest.raises((NotPlainError, TypeError)):
        decode(message)
