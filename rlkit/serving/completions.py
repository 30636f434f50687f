"""`POST /v1/completions`: text or token ids in, text and token ids out."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from typing import Any
from uuid import uuid4

from starlette.requests import Request
from starlette.responses import Response

from rlkit.serving.answer_text import AnswerText, Piece, TokenEntry
from rlkit.serving.answering import ActiveCall
from rlkit.serving.context import ServingContext
from rlkit.serving.event_stream import EventStream
from rlkit.serving.http import VERSION_HEADER, json_response, read_body, until_disconnect
from rlkit.serving.models import check_model
from rlkit.serving.requests import CompletionsRequest
from rlkit.serving.responses import CompletionChoice, CompletionLogProbs, CompletionsResponse
from rlkit.serving.usage import usage_of

DEFAULT_MAX_TOKENS = 16
"""OpenAI's, for this endpoint."""


@dataclass
class PlainAnswer:
    """One choice, growing."""

    text: AnswerText
    written: str = ""
    token_ids: list[int] = field(default_factory=list)
    entries: list[TokenEntry] = field(default_factory=list)
    finish_reason: str | None = None

    def keep(self, piece: Piece) -> None:
        self.written += piece.text
        self.token_ids += piece.token_ids
        self.entries += piece.entries
        self.finish_reason = piece.finish_reason


class Completions:
    """The endpoint."""

    def __init__(self, context: ServingContext) -> None:
        self._context = context

    async def __call__(self, request: Request) -> Response:
        context = self._context
        async with asyncio.timeout(context.timeout_s):
            body = await read_body(request, CompletionsRequest, max_bytes=context.settings.max_body_bytes)
            check_model(body.model, context)
            return await until_disconnect(request, self._answer(body))

    async def _answer(self, body: CompletionsRequest) -> Response:
        context = self._context
        prompts = await context.encoder.prompts(body)
        requests = context.answering.requests_for(
            body,
            prompts,
            asked_tokens=body.max_tokens,
            default_tokens=DEFAULT_MAX_TOKENS,
            top_log_probs=body.logprobs or 0,
        )
        call = await context.answering.start(requests)
        made = _Making(context, body, prompts, call)
        headers = {VERSION_HEADER: str(call.policy_version)}
        if body.stream:
            return EventStream(made.events(), close=call.close, timeout_s=context.timeout_s, headers=headers)
        try:
            return json_response(await made.whole(), headers=headers)
        finally:
            call.close()


class _Making:
    """The answers to one request; those to one prompt are numbered one after another."""

    def __init__(
        self, context: ServingContext, body: CompletionsRequest, prompts: Sequence[tuple[int, ...]], call: ActiveCall
    ) -> None:
        self._context = context
        self._body = body
        self._prompts = prompts
        self._call = call
        self._id = f"cmpl-{uuid4().hex}"
        self._created = int(time.time())
        self._answers = [
            PlainAnswer(
                AnswerText(
                    context.tokenizer,
                    body.stop_strings,
                    with_log_probs=body.logprobs is not None,
                    every_token=bool(body.return_token_ids),
                    special_ids=context.views.special_ids,
                )
            )
            for _ in range(len(prompts) * body.samples)
        ]

    async def whole(self) -> CompletionsResponse:
        async for index, piece in self._pieces():
            self._answers[index].keep(piece)
        choices = [
            self._choice(index, answer.written, answer.entries, answer.token_ids, answer.finish_reason, first=True)
            for index, answer in enumerate(self._answers)
        ]
        return self._response(choices, usage=usage_of(self._prompts, [answer.text for answer in self._answers]))

    async def events(self) -> AsyncIterator[CompletionsResponse]:
        seen: set[int] = set()
        async for index, piece in self._pieces():
            if piece.text or piece.entries or piece.finish_reason or self._body.return_token_ids:
                first = index not in seen
                seen.add(index)
                yield self._response(
                    [self._choice(index, piece.text, piece.entries, piece.token_ids, piece.finish_reason, first=first)],
                    **({"usage": None} if self._body.includes_usage else {}),
                )
        if self._body.includes_usage:
            yield self._response([], usage=usage_of(self._prompts, [answer.text for answer in self._answers]))

    async def _pieces(self) -> AsyncIterator[tuple[int, Piece]]:
        async for index, chunk in self._call.chunks():
            piece = self._answers[index].text.add(chunk)
            if piece.finish_reason is not None and chunk.finish_reason is None:
                self._call.leave_out(index)
            yield index, piece

    def _choice(
        self,
        index: int,
        text: str,
        entries: Sequence[TokenEntry],
        token_ids: Sequence[int],
        finish_reason: Any,
        *,
        first: bool,
    ) -> CompletionChoice:
        ids: dict[str, Any] = {}
        if self._body.return_token_ids:
            ids["token_ids"] = list(token_ids)
            if first:
                ids["prompt_token_ids"] = list(self._prompts[index // self._body.samples])
        logprobs: CompletionLogProbs | None = None
        if self._body.logprobs is not None:
            logprobs = self._context.views.completion(entries, with_alternatives=self._body.logprobs > 0)
        return CompletionChoice(index=index, text=text, logprobs=logprobs, finish_reason=finish_reason, **ids)

    def _response(self, choices: list[CompletionChoice], **more: Any) -> CompletionsResponse:
        return CompletionsResponse(
            id=self._id,
            object="text_completion",
            created=self._created,
            model=self._body.model,
            choices=choices,
            policy_version=self._call.policy_version,
            **more,
        )
