"""Chat messages as the field writes them, brought into one shape: `{"role": ..., "content": ...}`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rlkit.errors import DataError
from rlkit.types.prompts import Message

SHAREGPT_ROLES = {
    "human": "user",
    "user": "user",
    "gpt": "assistant",
    "chatgpt": "assistant",
    "bing": "assistant",
    "bard": "assistant",
    "assistant": "assistant",
    "model": "assistant",
    "system": "system",
    "tool": "tool",
    "observation": "tool",
    "function_response": "tool",
    "function_call": "assistant",
}
"""What the `from` of a sharegpt message means."""


def parse_messages(value: Any, column: str) -> tuple[Message, ...]:
    """The messages in `value`, each with a role and content (content defaults to "").

    Accepts role/content and sharegpt's from/value. Raises `DataError` (without the row's place) for anything else.
    """
    if not isinstance(value, Sequence) or isinstance(value, str | bytes):
        raise DataError(f"column {column!r} should hold a list of messages, got {type(value).__name__}")
    if not value:
        raise DataError(f"column {column!r} holds no messages")
    return tuple(_parse_message(message, column, number) for number, message in enumerate(value, start=1))


def with_system_prompt(messages: tuple[Message, ...], system_prompt: str) -> tuple[Message, ...]:
    """`messages` behind a system message, unless they have one or `system_prompt` is empty."""
    if not system_prompt or any(message["role"] == "system" for message in messages):
        return messages
    return ({"role": "system", "content": system_prompt}, *messages)


def text_of(message: Message) -> str:
    """The text of a message; of a list of parts, the text parts joined."""
    content = message.get("content", "")
    if isinstance(content, str):
        return content
    if isinstance(content, Sequence):
        return "".join(part.get("text", "") for part in content if isinstance(part, Mapping))
    return ""


def _parse_message(message: Any, column: str, number: int) -> Message:
    where = f"column {column!r}, message {number}"
    if not isinstance(message, Mapping):
        raise DataError(f"{where}: expected an object with role and content, got {type(message).__name__}")
    if "role" in message:
        role, content = message["role"], message.get("content", "")
        rest = {key: value for key, value in message.items() if key not in ("role", "content")}
    elif "from" in message:
        role, content = SHAREGPT_ROLES.get(message["from"]), message.get("value", "")
        rest = {}
        if role is None:
            known = ", ".join(SHAREGPT_ROLES)
            raise DataError(f"{where}: unknown speaker {message['from']!r} in 'from'; known: {known}")
    else:
        raise DataError(f"{where}: has neither 'role' nor 'from', only {', '.join(map(str, message)) or 'nothing'}")
    if not isinstance(role, str) or not role:
        raise DataError(f"{where}: role should be a name such as 'user', got {role!r}")
    if not isinstance(content, str | list):
        raise DataError(f"{where}: content should be text or a list of parts, got {type(content).__name__}")
    return {"role": role, "content": content, **rest}
