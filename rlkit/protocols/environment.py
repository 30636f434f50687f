"""Environments: what the policy talks with when it learns from more than one answer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from rlkit.types.prompts import Message, Prompt

Messages = Sequence[Message] | str
"""Chat messages; a text stands for one message of the user."""


@dataclass(frozen=True)
class EnvironmentStep:
    """What came of one message of the policy.

    messages  what it is shown next (no assistant messages); not read when the conversation is done
    reward    earned by this message; finite. The rewards of all turns are added to the score of the conversation.
    done      the conversation is over
    """

    messages: Messages = ()
    reward: float = 0.0
    done: bool = False


class Environment(Protocol):
    """One object for each conversation, made as `Class(**rollout.environment_options)`.

    Conversations run beside each other in threads; one object is called by one thread at a time. What raises here ends
    the run. Two methods are called when there are any: `close()` at the end of the conversation, and a class method
    `check_options(**rollout.environment_options)` once before the run, which raises `ConfigError` for wrong ones.
    """

    def reset(self, prompt: Prompt) -> Messages:
        """The messages that open the conversation, in place of the prompt's own; nothing keeps those.

        Called once, first. The answers to one prompt are compared with each other, so it should open all of them alike.
        """
        ...

    def step(self, message: Message) -> EnvironmentStep:
        """Reply to what the policy said: `{"role": "assistant", "content": ...}`."""
        ...
