"""From the reference of an environment to environments that can be called."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from rlkit.errors import ConfigError, RLKitError, RolloutError
from rlkit.plugin.references import describe_error, load_reference
from rlkit.protocols.environment import Environment, EnvironmentStep, Messages
from rlkit.rollout.foreign_calls import ForeignCalls
from rlkit.types.prompts import Message, Prompt


@dataclass(frozen=True)
class CheckedStep:
    """An `EnvironmentStep` that is as it should be; messages are empty when it is done."""

    messages: tuple[Message, ...]
    reward: float
    done: bool


@dataclass(frozen=True, eq=False)
class EnvironmentMaker:
    """Makes an environment for each conversation. `name` is the reference, for messages."""

    name: str
    make: Callable[[], Any]
    calls: ForeignCalls

    def open(self, prompt: Prompt) -> GuardedEnvironment:
        """A new environment for a conversation about `prompt`, not yet reset."""
        made = called(self.calls, self.name, "__init__", prompt, self.make)
        return GuardedEnvironment(self.name, prompt, made, self.calls)


@dataclass(frozen=True, eq=False)
class GuardedEnvironment:
    """One conversation's environment, with a time limit and checked answers; raises `RolloutError` only."""

    name: str
    prompt: Prompt
    environment: Environment
    calls: ForeignCalls

    def reset(self) -> tuple[Message, ...]:
        """The opening messages; those of the prompt when the environment has none of its own."""
        messages = self._called("reset", partial(self.environment.reset, self.prompt))
        return self._messages(messages, "reset") or self.prompt.messages

    def step(self, message: Message) -> CheckedStep:
        step = self._called("step", partial(self.environment.step, message))
        if not isinstance(step, EnvironmentStep):
            raise self._fault("step", f"returned {type(step).__name__} instead of an EnvironmentStep")
        if not math.isfinite(step.reward):
            raise self._fault("step", f"returned the reward {step.reward}, which is not finite")
        messages = () if step.done else self._messages(step.messages, "step")
        if not step.done and not messages:
            raise self._fault("step", "returned no messages, but is not done")
        return CheckedStep(messages, float(step.reward), bool(step.done))

    def close(self) -> None:
        close = getattr(self.environment, "close", None)
        if callable(close):
            self._called("close", close)

    def _called(self, what: str, function: Callable[[], Any]) -> Any:
        return called(self.calls, self.name, what, self.prompt, function)

    def _messages(self, messages: Messages | None, what: str) -> tuple[Message, ...]:
        if isinstance(messages, str):
            return ({"role": "user", "content": messages},)
        if messages is not None and not isinstance(messages, Sequence):
            raise self._fault(what, f"returned {type(messages).__name__} instead of messages")
        checked: list[Message] = []
        for message in messages or ():
            if not isinstance(message, Mapping) or not {"role", "content"} <= message.keys():
                raise self._fault(what, f"returned {message!r}, which is no message with role and content")
            if what == "step" and message["role"] == "assistant":
                raise self._fault(what, "returned a message of the assistant; only the policy speaks as that")
            checked.append(message)
        return tuple(checked)

    def _fault(self, what: str, reason: str) -> RolloutError:
        return fault(self.name, what, self.prompt, reason)


def load_environment(
    reference: str, options: Mapping[str, Any], calls: ForeignCalls, *, section: str = "rollout"
) -> EnvironmentMaker:
    """The environment at `reference`, to be made with `options`; `section` names the config section, for messages.

    Raises `PluginError` when it cannot be imported and `ConfigError` when it is none or does not take the options.
    """
    target = load_reference(reference)
    for method in ("reset", "step"):
        if not callable(getattr(target, method, None)):
            raise ConfigError(
                f"{section}.environment: '{reference}' has no method {method}; give a class with reset(prompt) and step(message)"
            )
    if not isinstance(target, type):
        raise ConfigError(
            f"{section}.environment: '{reference}' is a {type(target).__name__}; give a class: each conversation needs its own object"
        )
    signature = inspect.signature(target)
    try:
        signature.bind(**options)
    except TypeError as error:
        raise ConfigError(f"{section}.environment_options: {error}; '{reference}' takes {signature}") from error
    check = getattr(target, "check_options", None)
    if callable(check):
        check(**options)
    return EnvironmentMaker(reference, partial(target, **options), calls)


def called(calls: ForeignCalls, name: str, what: str, prompt: Prompt, function: Callable[[], Any]) -> Any:
    """What `function` returns. Raises `RolloutError` that says which environment failed where."""
    try:
        return calls.call(function, name)
    except RLKitError:
        raise
    # SystemExit too: foreign code that calls sys.exit() must not end the run without a word.
    except (Exception, SystemExit) as error:
        raise fault(name, what, prompt, describe_error(error)) from error


def fault(name: str, what: str, prompt: Prompt, reason: str) -> RolloutError:
    return RolloutError(f"environment '{name}' failed in {what} on row {prompt.row_id}: {reason}")
