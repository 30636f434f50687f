"""What was said in a conversation of several turns, beside its tokens."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from rlkit.types.prompts import Message

ConversationEnd = Literal["answer", "done", "turns", "tokens", "abort"]
"""answer: the policy answered without calling a tool; done: the environment said so; turns, tokens: a limit was reached;
abort: cancelled."""


@dataclass(frozen=True)
class Conversation:
    """One conversation between the policy and tools or an environment; its tokens are a row of `Rollouts`.

    opening       the messages of the first prompt
    replies       everything after it: the policy's messages (role assistant; parsed calls as `tool_calls`) and what was
                  put between them
    end           why it ended
    turn_rewards  the environment's, one for each of the policy's turns; empty without an environment
    tool_calls    calls that the policy made, the unreadable ones included
    tool_errors   those of them that failed: unreadable, of an unknown tool, raised, or out of time
    cut_results   tool results of which only the beginning was shown
    """

    opening: tuple[Message, ...]
    replies: tuple[Message, ...]
    end: ConversationEnd
    turn_rewards: tuple[float, ...] = ()
    tool_calls: int = 0
    tool_errors: int = 0
    cut_results: int = 0

    @property
    def messages(self) -> tuple[Message, ...]:
        """The whole conversation."""
        return (*self.opening, *self.replies)

    @property
    def turns(self) -> int:
        """Messages of the policy."""
        return sum(message.get("role") == "assistant" for message in self.replies)
