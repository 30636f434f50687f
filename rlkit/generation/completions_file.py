"""Completions files: what `rlkit generate` writes and `rlkit eval` reads.

JSON Lines, one line for each prompt with all of its answers:

    {"row_id": 0, "data_source": "gsm8k", "messages": [...], "reference": "18", "extra": {}, "model": "runs/a/model",
     "completions": [{"text": "...", "finish_reason": "stop", "num_tokens": 31}]}

A prompt that is a plain string has "prompt" instead of "messages"; "token_ids", "log_probs", "response_mask" (1 on the
tokens that were sampled, 0 on those of tools and environments) and "conversation" (what was said, when there were
several turns) of a completion are optional. A prompt that could not be answered has no
completions, and "error" says why. Lines are only ever appended, each batch durably, so a killed run loses at most its
last line.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, get_args

from rlkit.errors import DataError
from rlkit.types.conversation import Conversation, ConversationEnd
from rlkit.types.prompts import Prompt
from rlkit.types.reward import Sample
from rlkit.types.rollouts import FinishReason


@dataclass(frozen=True)
class Completion:
    """One answer. token_ids and log_probs (nats, aligned with token_ids) are None when they were not asked for.

    response_mask is True on tokens that were sampled; None where that is all of them, or there are no token_ids.

    Of a conversation of several turns `text` is the last one, and num_tokens counts everything behind the prompt.
    """

    text: str
    finish_reason: FinishReason = "stop"
    num_tokens: int = 0
    token_ids: tuple[int, ...] | None = None
    log_probs: tuple[float, ...] | None = None
    response_mask: tuple[bool, ...] | None = None
    conversation: Conversation | None = None


@dataclass(frozen=True)
class CompletionRow:
    """One prompt and its answers, or the `error` for which there are none. `prompt.images` is not kept in the file."""

    prompt: Prompt
    completions: tuple[Completion, ...]
    model: str = ""
    error: str = ""

    @property
    def samples(self) -> tuple[Sample, ...]:
        """The answers as a reward function sees them."""
        return tuple(
            Sample(
                self.prompt,
                completion.text,
                completion.finish_reason,
                completion.num_tokens,
                completion.conversation,
            )
            for completion in self.completions
        )


def append_rows(path: Path, rows: Iterable[CompletionRow]) -> None:
    """Append `rows` to the file (made when missing, with its folder) and return when they are on disk.

    Raises `DataError` when the file ends in the middle of a line: see `repair_tail`.
    """
    data = b"".join(_encode(row) for row in rows)
    path.parent.mkdir(parents=True, exist_ok=True)
    is_new = not path.exists()
    with path.open("ab") as file:
        if not is_new and not _ends_with_newline(path):
            raise DataError(f"completions file {path} ends in the middle of a line; repair it or choose another output")
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    if is_new:
        _fsync_folder(path.parent)


def write_rows(path: Path, rows: Iterable[CompletionRow]) -> None:
    """The whole file at once: a reader, or a run that was killed meanwhile, never finds half of it."""
    aside = path.with_name(f".{path.name}.partial")
    aside.unlink(missing_ok=True)
    append_rows(aside, rows)
    aside.replace(path)
    _fsync_folder(path.parent)


def read_rows(path: Path) -> Iterator[CompletionRow]:
    """The file's rows, one at a time. Raises `DataError` with file and line for anything that is not a row."""
    try:
        file = path.open("rb")
    except OSError as error:
        raise DataError(f"cannot read completions file {path}: {error.strerror}") from error
    with file:
        for number, line in enumerate(file, start=1):
            if not line.strip():
                continue
            try:
                yield _decode(line)
            except (ValueError, TypeError, KeyError) as error:
                cut = "; it was cut off: run the same `rlkit generate` again to complete the file"
                reason = cut if not line.endswith(b"\n") else f": {_reason(error)}"
                raise DataError(f"{path}, line {number} is not a row of completions{reason}") from error


def repair_tail(path: Path) -> int:
    """Make the file end with a whole line, so that rows can be appended; returns how many bytes were cut off.

    Only the last line is looked at: a killed writer leaves at most that one unfinished. A missing file is fine.
    """
    if not path.exists() or path.stat().st_size == 0 or _ends_with_newline(path):
        return 0
    with path.open("r+b") as file:
        tail = file.read().rpartition(b"\n")[2]
        try:
            _decode(tail)
        except (ValueError, TypeError, KeyError):
            file.seek(-len(tail), os.SEEK_END)
            file.truncate()
            removed = len(tail)
        else:
            file.write(b"\n")
            removed = 0
        file.flush()
        os.fsync(file.fileno())
    return removed


def _encode(row: CompletionRow) -> bytes:
    prompt = row.prompt
    asked = {"prompt": prompt.text} if prompt.text is not None else {"messages": prompt.messages}
    content = {
        "row_id": prompt.row_id,
        "data_source": prompt.data_source,
        **asked,
        "reference": prompt.reference,
        "extra": prompt.extra,
        "model": row.model,
        "completions": [_encode_completion(completion) for completion in row.completions],
        **({"error": row.error} if row.error else {}),
    }
    text = json.dumps(_plain(content), ensure_ascii=False, allow_nan=False) + "\n"
    # A lone surrogate, as a badly decoded answer may hold, has no UTF-8: it is written as a replacement character.
    return text.encode("utf-8", errors="replace")


def _encode_completion(completion: Completion) -> dict[str, Any]:
    content: dict[str, Any] = {
        "text": completion.text,
        "finish_reason": completion.finish_reason,
        "num_tokens": completion.num_tokens,
    }
    if completion.token_ids is not None:
        content["token_ids"] = list(completion.token_ids)
    if completion.log_probs is not None:
        content["log_probs"] = list(completion.log_probs)
    if completion.response_mask is not None:
        content["response_mask"] = list(map(int, completion.response_mask))
    if completion.conversation is not None:
        content["conversation"] = asdict(completion.conversation)
    return content


def _decode(line: bytes) -> CompletionRow:
    content = json.loads(line)
    if not isinstance(content, dict):
        raise TypeError(f"it holds a {type(content).__name__}, not an object")
    row_id = content["row_id"]
    if not isinstance(row_id, int) or isinstance(row_id, bool):
        raise TypeError(f"row_id is {row_id!r}, not an integer")
    text, messages = content.get("prompt"), content.get("messages") or ()
    if not isinstance(text, str) and not (messages and all(isinstance(message, dict) for message in messages)):
        raise ValueError('it has neither a string "prompt" nor a list "messages"')
    prompt = Prompt(
        row_id=row_id,
        messages=tuple(messages),
        text=text,
        reference=content.get("reference"),
        data_source=str(content.get("data_source", "default")),
        extra=content.get("extra") or {},
    )
    completions = tuple(_decode_completion(item) for item in content["completions"])
    return CompletionRow(prompt, completions, str(content.get("model", "")), str(content.get("error", "")))


def _decode_completion(content: Mapping[str, Any]) -> Completion:
    text = content["text"]
    if not isinstance(text, str):
        raise TypeError(f"a completion's text is {text!r}, not a string")
    finish_reason = content.get("finish_reason", "stop")
    if finish_reason not in get_args(FinishReason):
        raise ValueError(f"finish_reason is {finish_reason!r}, not one of {', '.join(get_args(FinishReason))}")
    token_ids, log_probs, mask = (content.get(name) for name in ("token_ids", "log_probs", "response_mask"))
    return Completion(
        text=text,
        finish_reason=finish_reason,
        num_tokens=int(content.get("num_tokens", 0)),
        token_ids=None if token_ids is None else tuple(token_ids),
        # JSON has no infinity: a log-prob of minus infinity is written as null.
        log_probs=None if log_probs is None else tuple(-math.inf if value is None else value for value in log_probs),
        response_mask=None if mask is None else tuple(map(bool, mask)),
        conversation=_decode_conversation(content["conversation"]) if content.get("conversation") else None,
    )


def _decode_conversation(content: Mapping[str, Any]) -> Conversation:
    if content["end"] not in get_args(ConversationEnd):
        raise ValueError(
            f"a conversation's end is {content['end']!r}, not one of {', '.join(get_args(ConversationEnd))}"
        )
    return Conversation(
        opening=tuple(content["opening"]),
        replies=tuple(content["replies"]),
        end=content["end"],
        turn_rewards=tuple(content.get("turn_rewards", ())),
        tool_calls=int(content.get("tool_calls", 0)),
        tool_errors=int(content.get("tool_errors", 0)),
        cut_results=int(content.get("cut_results", 0)),
    )


def _plain(value: Any) -> Any:
    """`value` in JSON's types: foreign scalars unwrapped, non-finite numbers as null, everything else as text."""
    if value is None or isinstance(value, str | bool | int):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_plain(item) for item in value]
    if hasattr(value, "tolist"):
        return _plain(value.tolist())
    return str(value)


def _ends_with_newline(path: Path) -> bool:
    with path.open("rb") as file:
        if file.seek(0, os.SEEK_END) == 0:
            return True
        file.seek(-1, os.SEEK_END)
        return file.read(1) == b"\n"


def _reason(error: Exception) -> str:
    if isinstance(error, KeyError):
        return f"it lacks {error.args[0]!r} (`rlkit generate` writes completions files)"
    return str(error)


def _fsync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
