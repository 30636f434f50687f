"""What a turn of the policy is answered with: results of tools, an environment's next messages, or nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rlkit.protocols.tokenizer import Tokenizer
from rlkit.rollout.environments import GuardedEnvironment
from rlkit.rollout.tool_calls import BrokenCall, ToolCall, ToolCallFormat
from rlkit.rollout.tools import Toolbox, ToolResult
from rlkit.types.conversation import ConversationEnd
from rlkit.types.prompts import Message


@dataclass(frozen=True)
class CallInTurn:
    """One call of a turn; `call_id` is empty for one that could not be read."""

    call: ToolCall | BrokenCall
    call_id: str


@dataclass(frozen=True)
class Said:
    """A turn of the policy as text: the message, and the calls in it."""

    message: Message
    calls: tuple[CallInTurn, ...] = ()


@dataclass(frozen=True)
class Reply:
    """What comes back. end: why nothing more is said; results: of the turn's calls, in order; reward: the environment's."""

    messages: tuple[Message, ...] = ()
    end: ConversationEnd | None = None
    results: tuple[ToolResult, ...] = ()
    reward: float = 0.0


def read_turn(
    tokenizer: Tokenizer, ids: Sequence[int], call_format: ToolCallFormat | None, *, first_call: int, ended: bool
) -> Said:
    """The turn with token ids `ids`, as text; special tokens are left out, as they are of every answer.

    call_format  None: nothing is a call
    first_call   calls of the conversation so far; ids count on from it
    ended        the last token may be one that ends the turn, which is no part of what a format reads
    """
    plain: Message = {"role": "assistant", "content": tokenizer.decode(ids, skip_special_tokens=True)}
    if call_format is None:
        return Said(plain)
    special = {tokenizer.eos_token_id, *getattr(tokenizer, "all_special_ids", ())}
    said = list(ids[:-1]) if ended and ids[-1] in special else list(ids)
    parsed = call_format.parse(tokenizer.decode(said, skip_special_tokens=False))
    if not parsed.calls:
        return Said(plain)
    calls = tuple(
        # Nine letters and digits: some templates insist.
        CallInTurn(call, f"call{first_call + position:05d}" if isinstance(call, ToolCall) else "")
        for position, call in enumerate(parsed.calls)
    )
    written = [_written(call.call, call.call_id) for call in calls if isinstance(call.call, ToolCall)]
    message = {"role": "assistant", "content": parsed.content, **({"tool_calls": written} if written else {})}
    return Said(message, calls)


def reply_to(
    said: Said, toolbox: Toolbox | None, environment: GuardedEnvironment | None, *, is_last_turn: bool
) -> Reply:
    """Runs what the turn asks for; touches no tokenizer, so that many turns can be answered at once in threads.

    Calls go to the tools, everything else to the environment. After the last turn nobody would read a result: its calls
    are not run, but the environment is told, of a turn with calls too, for it may have a reward.
    """
    if said.calls and toolbox is not None and not is_last_turn:
        return Reply(results=tuple(toolbox.run(call.call) for call in said.calls))
    if environment is None:
        is_unanswered = bool(said.calls) and toolbox is not None
        return Reply(end="turns" if is_unanswered else "answer")
    step = environment.step(said.message)
    return Reply(step.messages, "done" if step.done else "turns" if is_last_turn else None, reward=step.reward)


def result_messages(
    calls: Sequence[CallInTurn], results: Sequence[ToolResult], *, lone_results: bool
) -> tuple[Message, ...]:
    """The results as messages. lone_results: the template takes a result without a call, so unreadable calls have one too.

    Otherwise only what could be read is answered, or, when nothing could, the user says what was wrong.
    """
    pairs = list(zip(calls, results, strict=True))
    readable = [(call, result) for call, result in pairs if call.call_id]
    if lone_results:
        return tuple(_result_message(call, result) for call, result in pairs)
    if readable:
        return tuple(_result_message(call, result) for call, result in readable)
    return ({"role": "user", "content": "\n".join(result.text for _, result in pairs)},)


def tool_message(content: str, *, name: str = "", call_id: str = "") -> Message:
    """A tool's result as a chat message."""
    return {"role": "tool", "content": content, **({"name": name, "tool_call_id": call_id} if call_id else {})}


def _result_message(call: CallInTurn, result: ToolResult) -> Message:
    name = call.call.name if isinstance(call.call, ToolCall) else ""
    return tool_message(result.text, name=name, call_id=call.call_id)


def _written(call: ToolCall, call_id: str) -> Mapping[str, Any]:
    """As chat templates expect calls."""
    return {"id": call_id, "type": "function", "function": {"name": call.name, "arguments": dict(call.arguments)}}
