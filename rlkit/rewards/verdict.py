"""One answer's raw verdict, whatever a reward function returned, checked and turned into a `Reward`."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from numbers import Real

from rlkit.types.reward import Reward

SCORE_KEY = "score"
"""The key that a returned dict must have; its other numbers become parts."""


@dataclass(frozen=True)
class Failure:
    """An answer that could not be judged.

    reason  one line for people
    cause   what was raised, or None when the verdict itself was unusable
    """

    reason: str
    cause: BaseException | None = None


class NotApplicable:
    """A function's way to abstain (TRL's None): it adds nothing to the score and has no part."""


NOT_APPLICABLE = NotApplicable()


def failure_of(error: BaseException) -> Failure:
    """The failure that an exception stands for."""
    text = str(error).strip().split("\n", 1)[0]
    return Failure(f"{type(error).__name__}: {text}" if text else type(error).__name__, error)


def read_verdict(raw: object) -> Reward | Failure | NotApplicable:
    """`raw` as a checked `Reward` (every number finite), or why it is none.

    Accepts numbers and bools (also NumPy's and one-element tensors), `Reward`, and dicts with the key "score".
    """
    if isinstance(raw, Failure | NotApplicable):
        return raw
    if isinstance(raw, Reward):
        return _read_reward(raw)
    if isinstance(raw, Mapping):
        return _read_mapping(raw)
    number = number_or_none(raw)
    if number is None:
        return Failure(f"returned {_described(raw)}, which is not a number")
    if not math.isfinite(number):
        return Failure(f"returned {number}, which is not finite")
    return Reward(number)


def number_or_none(value: object) -> float | None:
    """`value` as a float when it is a number, a bool or a one-element array; else None."""
    if isinstance(value, Real):
        return float(value)
    item = getattr(value, "item", None)
    if callable(item):
        try:
            value = item()
        except (TypeError, ValueError, RuntimeError):
            return None
        if isinstance(value, Real):
            return float(value)
    return None


def _read_reward(reward: Reward) -> Reward | Failure:
    if reward.error is not None:
        return Failure(reward.error)
    return _read_mapping({**reward.parts, SCORE_KEY: reward.score}, skip_text=False)


def _read_mapping(raw: Mapping[str, object], *, skip_text: bool = True) -> Reward | Failure:
    if SCORE_KEY not in raw:
        keys = ", ".join(map(str, raw)) or "none"
        return Failure(f"returned a dict without the key {SCORE_KEY!r} (keys: {keys})")
    numbers: dict[str, float] = {}
    for key, value in raw.items():
        number = number_or_none(value)
        if number is None:
            # verl's scorers add texts, such as the extracted answer, beside the numbers: they are no parts.
            if skip_text and key != SCORE_KEY:
                continue
            return Failure(f"returned {_described(value)} as {key!r}, which is not a number")
        if not math.isfinite(number):
            return Failure(f"returned {number} as {key!r}, which is not finite")
        numbers[str(key)] = number
    return Reward(numbers.pop(SCORE_KEY), numbers)


def _described(value: object) -> str:
    text = repr(value)
    return f"{type(value).__name__} {text if len(text) <= 60 else text[:57] + '...'}"
