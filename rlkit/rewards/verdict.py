"""One answer's raw verdict, whatever a reward function returned, checked and turned into a `Reward`."""

from __future__ import annotations

import math
import traceback
from collections.abc import Mapping
from dataclasses import dataclass
from numbers import Real
from typing import Literal

from rlkit.errors import TransientRewardError
from rlkit.types.reward import Reward

SCORE_KEY = "score"
"""The key that a returned dict must have; its other numbers become parts."""
LONGEST_REASON = 300
"""Characters of an exception's text that are shown: some quote the whole answer."""


FailureKind = Literal["timeout", "exception", "value", "memory", "killed", "transient", "said"]
"""timeout: no verdict in time; exception: the function raised; value: what it returned is no usable verdict; memory: it wanted
more than its worker may have; killed: its worker ended in the middle of the answer; transient: asked again as often as
allowed; said: the function itself said that it could not judge."""


class VerdictError(ValueError):
    """A function returned something that is not one verdict for each answer."""


@dataclass(frozen=True)
class Failure:
    """An answer that could not be judged. Its texts may quote anything, and have UTF-8 whatever that was.

    reason         one line for people
    trace          the traceback of what was raised; empty when the verdict itself was unusable
    retry_after_s  of kind transient: the shortest pause before the next attempt, if the function knew one
    """

    reason: str
    kind: FailureKind = "value"
    trace: str = ""
    retry_after_s: float | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "reason", _with_utf8(self.reason))
        object.__setattr__(self, "trace", _with_utf8(self.trace))


class NotApplicable:
    """A function's way to abstain (TRL's None): it adds nothing to the score and has no part."""


NOT_APPLICABLE = NotApplicable()

Verdict = Reward | Failure | NotApplicable


def failure_of(error: BaseException) -> Failure:
    """The failure that an exception stands for."""
    if isinstance(error, VerdictError):
        return Failure(str(error))
    text = " ".join(str(error).split())
    text = text if len(text) <= LONGEST_REASON else text[: LONGEST_REASON - 3] + "..."
    reason = f"{type(error).__name__}: {text}" if text else type(error).__name__
    trace = "".join(traceback.format_exception(error))
    if isinstance(error, TransientRewardError):
        return Failure(text or reason, "transient", trace, error.retry_after_s)
    return Failure(reason, "memory" if isinstance(error, MemoryError) else "exception", trace)


def read_verdict(raw: object) -> Verdict:
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
        return Failure(reward.error, "said")
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
        numbers[_with_utf8(str(key))] = number
    return Reward(numbers.pop(SCORE_KEY), numbers)


def _with_utf8(text: str) -> str:
    """Half of a surrogate pair, as a badly cut answer may hold, has no UTF-8: it becomes a question mark."""
    return text.encode("utf-8", errors="replace").decode("utf-8")


def _described(value: object) -> str:
    text = repr(value)
    return f"{type(value).__name__} {text if len(text) <= 60 else text[:57] + '...'}"
