"""What clients get back: OpenAI's objects, and beside them the policy version and, on request, token ids."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict

FinishReasonText = Literal["stop", "length", "tool_calls"]


class ResponseModel(BaseModel):
    """Written without the fields that were not set."""

    model_config = ConfigDict(frozen=True)

    def as_json(self) -> str:
        return self.model_dump_json(exclude_unset=True)


class ErrorBody(ResponseModel):
    message: str
    type: str
    param: str | None
    code: str | None


class ErrorResponse(ResponseModel):
    error: ErrorBody


class Usage(ResponseModel):
    """prompt_tokens counts each prompt once; completion_tokens all that were sampled."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int


class TokenLogProb(ResponseModel):
    """bytes is null for a token that is a part of a character."""

    token: str
    logprob: float
    bytes: list[int] | None


class ChatTokenLogProb(TokenLogProb):
    token_id: int | None = None
    top_logprobs: list[TokenLogProb]


class ChatLogProbs(ResponseModel):
    content: list[ChatTokenLogProb]


class FunctionCall(ResponseModel):
    name: str
    arguments: str


class AnsweredToolCall(ResponseModel):
    index: int | None = None
    id: str
    type: Literal["function"]
    function: FunctionCall


class AnsweredMessage(ResponseModel):
    role: Literal["assistant"] | None = None
    content: str | None = None
    tool_calls: list[AnsweredToolCall] | None = None


class ChatChoice(ResponseModel):
    index: int
    message: AnsweredMessage
    logprobs: ChatLogProbs | None
    finish_reason: FinishReasonText
    token_ids: list[int] | None = None


class ChatResponse(ResponseModel):
    id: str
    object: Literal["chat.completion"]
    created: int
    model: str
    choices: list[ChatChoice]
    usage: Usage
    policy_version: int
    prompt_token_ids: list[int] | None = None


class ChatChunkChoice(ResponseModel):
    index: int
    delta: AnsweredMessage
    logprobs: ChatLogProbs | None
    finish_reason: FinishReasonText | None
    token_ids: list[int] | None = None


class ChatChunk(ResponseModel):
    id: str
    object: Literal["chat.completion.chunk"]
    created: int
    model: str
    choices: list[ChatChunkChoice]
    policy_version: int
    usage: Usage | None = None
    prompt_token_ids: list[int] | None = None


class CompletionLogProbs(ResponseModel):
    tokens: list[str]
    token_logprobs: list[float]
    top_logprobs: list[dict[str, float]] | None
    text_offset: list[int]


class CompletionChoice(ResponseModel):
    """finish_reason is null in the pieces of a stream, but for the last."""

    index: int
    text: str
    logprobs: CompletionLogProbs | None
    finish_reason: Literal["stop", "length"] | None
    token_ids: list[int] | None = None
    prompt_token_ids: list[int] | None = None


class CompletionsResponse(ResponseModel):
    """One answer, or a piece of a stream."""

    id: str
    object: Literal["text_completion"]
    created: int
    model: str
    choices: list[CompletionChoice]
    policy_version: int
    usage: Usage | None = None


class Model(ResponseModel):
    id: str
    object: Literal["model"]
    created: int
    owned_by: str
    max_model_len: int


class ModelList(ResponseModel):
    object: Literal["list"]
    data: list[Model]


class Health(ResponseModel):
    status: Literal["ok", "draining", "failed"]
    policy_version: int


class WeightsResponse(ResponseModel):
    object: Literal["weights"]
    path: str
    policy_version: int
    seconds: float
