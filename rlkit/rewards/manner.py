"""What a reward function says about the way in which it wants to be called."""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from typing import get_args

from rlkit.errors import RewardError
from rlkit.protocols.reward import RunsIn


@dataclass(frozen=True)
class Manner:
    """See `rlkit.protocols.RewardFunction` for what each means."""

    judges_apart: bool
    runs_in: RunsIn = "process"
    remembers: bool = True


def manner_of(target: object, *, name: str, judges_apart: bool) -> Manner:
    """What `target` says by its attributes; judges_apart: what its signature suggests.

    Raises `RewardError` for an attribute that is none of the accepted values, or that contradicts `async def`.
    """
    apart = _flag(target, "judges_apart", judges_apart, name)
    remembers = _flag(target, "remembers", True, name)
    awaited = is_async(target)
    runs_in: RunsIn = getattr(target, "runs_in", "async" if awaited else "process")
    if runs_in not in get_args(RunsIn):
        raise RewardError(
            f"reward function {name!r} has runs_in = {runs_in!r}; it must be one of {', '.join(get_args(RunsIn))}"
        )
    if awaited != (runs_in == "async"):
        remedy = "leave runs_in out" if awaited else "define it with async def"
        raise RewardError(
            f"reward function {name!r} has runs_in = {runs_in!r} and is {'' if awaited else 'not '}async; {remedy}"
        )
    return Manner(apart, runs_in, remembers)


def is_async(function: object) -> bool:
    """Whether calling it gives something to be awaited."""
    method = getattr(type(function), "__call__", None)  # noqa: B004 - the method itself is wanted, not whether there is one
    return inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(method)


def _flag(target: object, name: str, default: bool, function: str) -> bool:
    value = getattr(target, name, default)
    if not isinstance(value, bool):
        raise RewardError(f"reward function {function!r} has {name} = {value!r}; it must be True or False")
    return value
