"""Conversations of several turns, in numbers."""

from __future__ import annotations

from collections import Counter

from rlkit.types import Rollouts


def conversation_metrics(rollouts: Rollouts) -> dict[str, float]:
    """`conversation/*`; empty for answers of one turn."""
    conversations = rollouts.conversations
    if conversations is None:
        return {}
    ends = Counter(conversation.end for conversation in conversations)
    turns = [conversation.turns for conversation in conversations]
    calls = sum(conversation.tool_calls for conversation in conversations)
    errors = sum(conversation.tool_errors for conversation in conversations)
    rows = len(conversations)
    return {
        "conversation/turns_mean": sum(turns) / rows,
        "conversation/turns_max": float(max(turns)),
        "conversation/sampled_fraction": float(rollouts.response_mask.values.double().mean()),
        "conversation/turn_limit_fraction": ends["turns"] / rows,
        "conversation/token_limit_fraction": ends["tokens"] / rows,
        "conversation/tool_calls": calls / rows,
        "conversation/tool_errors": float(errors),
        "conversation/tool_error_fraction": errors / max(1, calls),
        "conversation/cut_results": float(sum(conversation.cut_results for conversation in conversations)),
    }
