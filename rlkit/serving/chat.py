"""`POST /v1/chat/completions`."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from typing import Any
from uuid import uuid4

from starlette.requests import Request
from starlette.responses import Response

from rlkit.rollout.tool_calls import ToolCall
from rlkit.serving.answer_text import AnswerText, Piece, TokenEntry
from rlkit.serving.answering import ActiveCall
from rlkit.serving.context import ServingContext
from rlkit.serving.event_stream import EventStream
from rlkit.serving.http import VERSION_HEADER, json_response, read_body, until_disconnect
from rlkit.serving.models import check_model
from rlkit.serving.prompt_encoder import EncodedChat
from rlkit.serving.requests import ChatRequest
from rlkit.serving.responses import (
    AnsweredMessage,
    AnsweredToolCall,
    ChatChoice,
    ChatChunk,
    ChatChunkChoice,
    ChatResponse,
    FinishReasonText,
    FunctionCall,
)
from rlkit.serving.tool_call_stream import Parsed, ToolCallStream
from rlkit.serving.usage import usage_of
from rlkit.types import CompletionChunk


@dataclass(frozen=True)
class Step:
    """What one chunk adds to an answer: text and calls in order, and why it ended, if it has."""

    parts: list[Parsed]
    piece: Piece
    finish_reason: FinishReasonText | None


@dataclass
class ChatAnswer:
    """One choice, growing."""

    text: AnswerText
    calls: ToolCallStream | None
    parts: list[Parsed] = field(default_factory=list)
    token_ids: list[int] = field(default_factory=list)
    entries: list[TokenEntry] = field(default_factory=list)
    num_calls: int = 0
    finish_reason: FinishReasonText | None = None

    def add(self, chunk: CompletionChunk) -> Step:
        piece = self.text.add(chunk)
        parts: list[Parsed] = [piece.text] if piece.text else []
        if self.calls is not None:
            parts = self.calls.feed(piece.text)
            parts += self.calls.finish() if piece.finish_reason else []
        self.num_calls += sum(isinstance(part, ToolCall) for part in parts)
        if piece.finish_reason is not None:
            called = self.num_calls and piece.finish_reason == "stop"
            self.finish_reason = "tool_calls" if called else "length" if piece.finish_reason == "length" else "stop"
        return Step(parts, piece, self.finish_reason)

    def keep(self, step: Step) -> None:
        """For an answer that is sent whole."""
        self.parts += step.parts
        self.token_ids += step.piece.token_ids
        self.entries += step.piece.entries


class ChatCompletions:
    """The endpoint."""

    def __init__(self, context: ServingContext) -> None:
        self._context = context

    async def __call__(self, request: Request) -> Response:
        context = self._context
        async with asyncio.timeout(context.timeout_s):
            body = await read_body(request, ChatRequest, max_bytes=context.settings.max_body_bytes)
            check_model(body.model, context)
            return await until_disconnect(request, self._answer(body))

    async def _answer(self, body: ChatRequest) -> Response:
        context = self._context
        prompt = await context.encoder.chat(body)
        requests = context.answering.requests_for(
            body,
            [prompt.token_ids],
            asked_tokens=body.asked_tokens,
            default_tokens=context.settings.default_max_tokens,
            top_log_probs=body.top_logprobs or 0,
        )
        call = await context.answering.start(requests)
        made = _Making(context, body, prompt, call)
        headers = {VERSION_HEADER: str(call.policy_version)}
        if body.stream:
            return EventStream(made.events(), close=call.close, timeout_s=context.timeout_s, headers=headers)
        try:
            return json_response(await made.whole(), headers=headers)
        finally:
            call.close()


class _Making:
    """The answers to one request."""

    def __init__(self, context: ServingContext, body: ChatRequest, prompt: EncodedChat, call: ActiveCall) -> None:
        self._context = context
        self._body = body
        self._prompt = prompt
        self._call = call
        self._id = f"chatcmpl-{uuid4().hex}"
        self._created = int(time.time())
        tools = bool(body.visible_tools)
        self._answers = [
            ChatAnswer(
                AnswerText(
                    context.tokenizer,
                    body.stop_strings,
                    with_log_probs=bool(body.logprobs),
                    every_token=bool(body.return_token_ids),
                    special_ids=context.views.special_ids,
                ),
                ToolCallStream(thinking=prompt.thinking) if tools else None,
            )
            for _ in range(body.samples)
        ]

    async def whole(self) -> ChatResponse:
        async for index, step in self._steps():
            self._answers[index].keep(step)
        ids = {"prompt_token_ids": list(self._prompt.token_ids)} if self._body.return_token_ids else {}
        return ChatResponse(
            id=self._id,
            object="chat.completion",
            created=self._created,
            model=self._body.model,
            choices=[self._choice(index, answer) for index, answer in enumerate(self._answers)],
            usage=usage_of([self._prompt.token_ids], [answer.text for answer in self._answers]),
            policy_version=self._call.policy_version,
            **ids,
        )

    async def events(self) -> AsyncIterator[ChatChunk]:
        for index in range(len(self._answers)):
            ids = {"prompt_token_ids": list(self._prompt.token_ids)} if self._body.return_token_ids else {}
            delta = AnsweredMessage(role="assistant", content="")
            yield self._chunk([ChatChunkChoice(index=index, delta=delta, logprobs=None, finish_reason=None)], **ids)
        calls_before = [0] * len(self._answers)
        async for index, step in self._steps():
            delta = self._delta(step.parts, calls_before[index])
            calls_before[index] = self._answers[index].num_calls
            choice = self._chunk_choice(index, delta, step)
            if delta.model_fields_set or step.piece.entries or step.finish_reason or self._body.return_token_ids:
                yield self._chunk([choice])
        if self._body.includes_usage:
            usage = usage_of([self._prompt.token_ids], [answer.text for answer in self._answers])
            yield self._chunk([], usage=usage)

    async def _steps(self) -> AsyncIterator[tuple[int, Step]]:
        async for index, chunk in self._call.chunks():
            step = self._answers[index].add(chunk)
            if step.finish_reason is not None and chunk.finish_reason is None:
                self._call.leave_out(index)
            yield index, step

    def _choice(self, index: int, answer: ChatAnswer) -> ChatChoice:
        assert answer.finish_reason is not None
        text = "".join(part for part in answer.parts if isinstance(part, str))
        calls = [_answered(part, None) for part in answer.parts if isinstance(part, ToolCall)]
        shown: dict[str, Any] = {"tool_calls": calls} if calls else {}
        message = AnsweredMessage(role="assistant", content=text if text or not calls else None, **shown)
        logprobs = None
        if self._body.logprobs:
            logprobs = self._context.views.chat(answer.entries, with_ids=bool(self._body.return_token_ids))
        ids = {"token_ids": answer.token_ids} if self._body.return_token_ids else {}
        return ChatChoice(index=index, message=message, logprobs=logprobs, finish_reason=answer.finish_reason, **ids)

    def _delta(self, parts: Sequence[Parsed], calls_before: int) -> AnsweredMessage:
        text = "".join(part for part in parts if isinstance(part, str))
        calls = [part for part in parts if isinstance(part, ToolCall)]
        shown: dict[str, Any] = {"content": text} if text else {}
        if calls:
            shown["tool_calls"] = [_answered(call, calls_before + number) for number, call in enumerate(calls)]
        return AnsweredMessage(**shown)

    def _chunk_choice(self, index: int, delta: AnsweredMessage, step: Step) -> ChatChunkChoice:
        logprobs = None
        if self._body.logprobs and step.piece.entries:
            logprobs = self._context.views.chat(step.piece.entries, with_ids=bool(self._body.return_token_ids))
        ids = {"token_ids": list(step.piece.token_ids)} if self._body.return_token_ids else {}
        return ChatChunkChoice(index=index, delta=delta, logprobs=logprobs, finish_reason=step.finish_reason, **ids)

    def _chunk(self, choices: list[ChatChunkChoice], **more: Any) -> ChatChunk:
        if self._body.includes_usage:
            more.setdefault("usage", None)
        return ChatChunk(
            id=self._id,
            object="chat.completion.chunk",
            created=self._created,
            model=self._body.model,
            choices=choices,
            policy_version=self._call.policy_version,
            **more,
        )


def _answered(call: ToolCall, index: int | None) -> AnsweredToolCall:
    numbered: dict[str, Any] = {} if index is None else {"index": index}
    return AnsweredToolCall(
        id=f"call_{uuid4().hex[:24]}",
        type="function",
        function=FunctionCall(name=call.name, arguments=json.dumps(dict(call.arguments), ensure_ascii=False)),
        **numbered,
    )
