"""A conversation while it goes on, and the rows of `Rollouts` that finished ones become."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from rlkit.rollout.environments import GuardedEnvironment
from rlkit.rollout.replies import Said
from rlkit.types import FinishReason, Prompt, Ragged, Rollouts
from rlkit.types.conversation import Conversation, ConversationEnd
from rlkit.types.prompts import Message

FINISH_REASONS: Mapping[ConversationEnd, FinishReason] = {
    "answer": "stop", "done": "stop", "turns": "length", "tokens": "length", "abort": "abort",
}  # fmt: skip
"""A conversation that a limit has ended is a truncated one, whichever the limit."""


@dataclass(frozen=True)
class SampledTurn:
    """What the engine sampled for one turn; log_probs None when it gives none."""

    token_ids: list[int]
    mask: list[bool]
    log_probs: list[float] | None
    finish_reason: FinishReason
    policy_version: int


@dataclass(eq=False)
class RunningConversation:
    """One conversation and its tokens.

    group       number of the prompt in its batch
    key         stands for prompt and sample: engines draw random numbers by it
    max_tokens  of everything behind the first prompt
    """

    group: int
    key: int
    prompt: Prompt
    max_tokens: int
    opening: tuple[Message, ...]
    prompt_ids: list[int]
    environment: GuardedEnvironment | None = None
    replies: list[Message] = field(default_factory=list)
    turn_rewards: list[float] = field(default_factory=list)
    response_ids: list[int] = field(default_factory=list)
    mask: list[bool] = field(default_factory=list)
    log_probs: list[float] = field(default_factory=list)
    turn_ids: list[int] = field(default_factory=list)  # of the last turn
    end: ConversationEnd | None = None
    policy_version: int = 0
    has_log_probs: bool = True
    tool_calls: int = 0
    tool_errors: int = 0
    cut_results: int = 0

    @property
    def token_ids(self) -> list[int]:
        """Everything seen so far: the next turn's prompt."""
        return self.prompt_ids + self.response_ids

    @property
    def num_tokens(self) -> int:
        return len(self.prompt_ids) + len(self.response_ids)

    @property
    def messages(self) -> list[Message]:
        return [*self.opening, *self.replies]

    def allowance(self, turn_tokens: int) -> int:
        """Tokens that the next turn may have."""
        left = self.max_tokens - len(self.response_ids)
        return min(left, turn_tokens) if turn_tokens else left

    def take(self, turn: SampledTurn, turn_tokens: int) -> SampledTurn:
        """Add the tokens of a turn, those within its allowance, and return them; ends the conversation when cut for good.

        Raises `ValueError` when the engine's weights have changed since the first turn.
        """
        if self.turn_rewards and turn.policy_version != self.policy_version:
            raise ValueError(
                f"the engine's weights changed from version {self.policy_version} to {turn.policy_version} in the middle "
                "of a conversation"
            )
        allowed = self.allowance(turn_tokens)
        if len(turn.token_ids) > allowed:
            turn = SampledTurn(
                turn.token_ids[:allowed],
                turn.mask[:allowed],
                None if turn.log_probs is None else turn.log_probs[:allowed],
                "length",
                turn.policy_version,
            )
        self.policy_version = turn.policy_version
        self.has_log_probs = self.has_log_probs and turn.log_probs is not None
        self._append(turn.token_ids, turn.mask, turn.log_probs or [0.0] * len(turn.token_ids))
        self.turn_ids = turn.token_ids
        self.turn_rewards.append(0.0)
        if turn.finish_reason == "abort":
            self.end = "abort"
        elif turn.finish_reason == "length" and len(self.response_ids) >= self.max_tokens:
            self.end = "tokens"
        return turn

    def say(self, said: Said) -> None:
        """The turn as a message."""
        self.replies.append(said.message)
        self.tool_calls += len(said.calls)
        self.tool_errors += sum(not call.call_id for call in said.calls)

    def hear(self, messages: Sequence[Message], ids: Sequence[int]) -> None:
        """What the policy is shown next; ends the conversation when no token would be left for an answer."""
        if len(self.response_ids) + len(ids) >= self.max_tokens:
            self.end = "tokens"
            return
        self.replies.extend(messages)
        self._append(ids, [False] * len(ids), [0.0] * len(ids))

    def finished(self, *, with_rewards: bool) -> Conversation:
        """What was said, when it is over."""
        assert self.end is not None
        return Conversation(
            opening=self.opening,
            replies=tuple(self.replies),
            end=self.end,
            turn_rewards=tuple(self.turn_rewards) if with_rewards else (),
            tool_calls=self.tool_calls,
            tool_errors=self.tool_errors,
            cut_results=self.cut_results,
        )

    def _append(self, ids: Sequence[int], mask: Sequence[bool], log_probs: Sequence[float]) -> None:
        self.response_ids.extend(ids)
        self.mask.extend(mask)
        self.log_probs.extend(log_probs)


def sampled_turns(rollouts: Rollouts) -> list[SampledTurn]:
    """The engine's answers, row by row."""
    given = rollouts.rollout_log_probs
    log_probs = [None] * len(rollouts) if given is None else [row.tolist() for row in given.rows()]
    return [
        SampledTurn(ids.tolist(), mask.tolist(), values, reason, rollouts.policy_version)
        for ids, mask, values, reason in zip(
            rollouts.response_ids.rows(),
            rollouts.response_mask.rows(),
            log_probs,
            rollouts.finish_reasons,
            strict=True,
        )
    ]


def to_rollouts(conversations: Sequence[RunningConversation], *, with_rewards: bool) -> Rollouts:
    """One row for each conversation, in order; log-probs are 0 on tokens that were not sampled."""
    import torch

    rows = [conversation.finished(with_rewards=with_rewards) for conversation in conversations]
    versions = {conversation.policy_version for conversation in conversations}
    if len(versions) > 1:
        raise ValueError(f"the engine answered with weights of several versions: {sorted(versions)}")
    with_log_probs = all(conversation.has_log_probs for conversation in conversations)
    responses = Ragged.from_rows([conversation.response_ids for conversation in conversations], dtype=torch.int64)

    def aligned(values: Sequence[Sequence[float]], dtype: torch.dtype) -> Ragged:
        return Ragged.from_rows(values, dtype=dtype)

    return Rollouts(
        prompt_ids=Ragged.from_rows([conversation.prompt_ids for conversation in conversations], dtype=torch.int64),
        response_ids=responses,
        response_mask=aligned([conversation.mask for conversation in conversations], torch.bool),
        rollout_log_probs=aligned([conversation.log_probs for conversation in conversations], torch.float32)
        if with_log_probs
        else None,
        group_ids=torch.tensor([conversation.group for conversation in conversations], dtype=torch.int64),
        finish_reasons=tuple(FINISH_REASONS[row.end] for row in rows),
        policy_version=versions.pop(),
        prompts=tuple(conversation.prompt for conversation in conversations),
        conversations=tuple(rows),
    )
