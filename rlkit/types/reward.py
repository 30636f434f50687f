"""What a reward function sees and what it answers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from rlkit.types.conversation import Conversation
from rlkit.types.prompts import Message, Prompt
from rlkit.types.rollouts import FinishReason


@dataclass(frozen=True)
class Sample:
    """One answer to be judged.

    response             the decoded answer, special tokens left out; of a conversation the policy's last message
    num_response_tokens  everything behind the first prompt, tool output included
    conversation         what was said, when there were several turns
    """

    prompt: Prompt
    response: str
    finish_reason: FinishReason = "stop"
    num_response_tokens: int = 0
    conversation: Conversation | None = None

    @property
    def replies(self) -> tuple[Message, ...]:
        """The messages behind the prompt: the answer, or all turns of a conversation."""
        if self.conversation is not None:
            return self.conversation.replies
        return ({"role": "assistant", "content": self.response},)

    @property
    def messages(self) -> tuple[Message, ...]:
        """The whole conversation, prompt and answer; a plain text counts as what the user said."""
        if self.conversation is not None:
            return self.conversation.messages
        text = self.prompt.text
        asked = self.prompt.messages if text is None else ({"role": "user", "content": text},)
        return (*asked, *self.replies)


@dataclass(frozen=True)
class Reward:
    """The verdict on one answer.

    score        what is optimised; finite
    parts        named contributions or diagnostics (for example {"correct": 1.0, "format": 0.2}); finite
    error        set when the answer could not be judged; the score is then not to be trusted
    turn_scores  the share of the score that each of the policy's turns has earned by itself, where that is known (an
                 environment's rewards); what they leave of the score belongs to the end. Set by the scorer.
    """

    score: float
    parts: Mapping[str, float] = field(default_factory=dict)
    error: str | None = None
    turn_scores: tuple[float, ...] = ()
