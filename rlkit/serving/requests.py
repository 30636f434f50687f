"""What clients may send: OpenAI's requests, as far as they can be kept. What cannot is refused, never passed over."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, field_validator, model_validator

NEUTRAL_ONLY = {
    "frequency_penalty": "0",
    "presence_penalty": "0",
    "logit_bias": "an empty object",
    "response_format": '{"type": "text"}',
    "tool_choice": '"auto" or "none"',
    "parallel_tool_calls": "true",
    "store": "false",
    "best_of": "1",
    "echo": "false",
    "suffix": "null",
}
"""Parameters that clients send with their default, which is all that is understood; and that default, in words."""

Zero = Annotated[float, Field(ge=0, le=0)]
StopString = Annotated[str, StringConstraints(min_length=1, max_length=256)]
StopStrings = Annotated[list[StopString], Field(max_length=16)]
TokenId = Annotated[int, Field(ge=0, lt=2**31)]
TokenIds = Annotated[list[TokenId], Field(min_length=1)]
Text = Annotated[str, StringConstraints(min_length=1)]
SMALLEST_TEMPERATURE = 1e-4
"""Below it float32 overflows; 0 says what is meant."""


class RequestModel(BaseModel):
    """Strict: no string stands for a number, and no key is left unread."""

    model_config = ConfigDict(
        extra="forbid", strict=True, frozen=True, allow_inf_nan=False, use_attribute_docstrings=True
    )


class StreamOptions(RequestModel):
    include_usage: bool | None = None
    """Send the usage in a last event of its own."""


class SamplingRequest(RequestModel):
    """What chat and plain completions have in common."""

    model: Text
    """Name of the model, as `/v1/models` gives it."""
    max_tokens: Annotated[int, Field(ge=1)] | None = None
    """Longest answer in tokens."""
    temperature: Annotated[float, Field(ge=0, le=100)] | None = None
    """Softmax temperature; 0 is greedy; 1 when not given."""
    top_p: Annotated[float, Field(gt=0, le=1)] | None = None
    """Nucleus sampling: the smallest set of tokens with this much probability is kept."""
    top_k: Annotated[int, Field(ge=-1, lt=2**31)] | None = None
    """Only the k likeliest tokens are kept; 0 and -1 keep all."""
    min_p: Annotated[float, Field(ge=0, le=1)] | None = None
    """Tokens below this fraction of the top token's probability are dropped."""
    repetition_penalty: Annotated[float, Field(ge=0.1, le=10)] | None = None
    """Above 1, tokens that are already there become less likely."""
    n: Annotated[int, Field(ge=1, le=128)] | None = None
    """Answers to each prompt."""
    seed: Annotated[int, Field(ge=-(2**63), lt=2**63)] | None = None
    """The same seed, prompt and weights give the same answers."""
    stop: StopString | StopStrings | None = None
    """Strings that end an answer and are no part of it."""
    stop_token_ids: Annotated[list[TokenId], Field(max_length=64)] | None = None
    """Tokens that end an answer, besides the model's end-of-sequence tokens."""
    stream: bool | None = None
    """Send the answer in pieces as server-sent events."""
    stream_options: StreamOptions | None = None
    """Only with `stream`."""
    return_token_ids: bool | None = None
    """Return the token ids of prompt and answers, and log-probs of every sampled token, the unseen ones included."""
    user: str | None = None
    """Taken and not used."""
    frequency_penalty: Zero | None = None
    """Only 0."""
    presence_penalty: Zero | None = None
    """Only 0."""
    logit_bias: Annotated[dict[str, float], Field(max_length=0)] | None = None
    """Only empty."""

    @field_validator("temperature")
    @classmethod
    def _not_nearly_zero(cls, value: float | None) -> float | None:
        if value is not None and 0 < value < SMALLEST_TEMPERATURE:
            raise ValueError(f"{value:g} is too small; 0 is greedy, {SMALLEST_TEMPERATURE:g} the smallest otherwise")
        return value

    @model_validator(mode="after")
    def _options_of_a_stream(self) -> SamplingRequest:
        if self.stream_options is not None and not self.stream:
            raise ValueError("stream_options go with stream = true only")
        return self

    @property
    def samples(self) -> int:
        return self.n or 1

    @property
    def stop_strings(self) -> tuple[str, ...]:
        return (self.stop,) if isinstance(self.stop, str) else tuple(self.stop or ())

    @property
    def includes_usage(self) -> bool:
        return bool(self.stream_options and self.stream_options.include_usage)


class TextPart(RequestModel):
    """A part of a message; only text is understood."""

    type: Literal["text"]
    text: str


class CalledFunction(RequestModel):
    name: Text
    arguments: str
    """A JSON object, as text."""


class PastToolCall(RequestModel):
    id: str
    type: Literal["function"]
    function: CalledFunction


class ChatMessage(RequestModel):
    """One message of the conversation so far."""

    role: Literal["system", "developer", "user", "assistant", "tool"]
    """`developer` is rendered as `system`."""
    content: str | list[TextPart] | None = None
    """Text, or parts of type text."""
    name: str | None = None
    """Handed to the chat template."""
    tool_calls: Annotated[list[PastToolCall], Field(min_length=1)] | None = None
    """Calls that the assistant made in this message."""
    tool_call_id: str | None = None
    """The call that a tool's message answers."""
    refusal: None = None

    @field_validator("content", mode="before")
    @classmethod
    def _has_no_images(cls, value: Any) -> Any:
        for number, part in enumerate(value if isinstance(value, list) else ()):
            if isinstance(part, dict) and part.get("type") in ("image", "image_url"):
                raise ValueError(
                    f"part {number} is an image, and this server takes text only (rlkit generate takes images)"
                )
        return value

    @model_validator(mode="after")
    def _says_something(self) -> ChatMessage:
        if self.content is None and not (self.role == "assistant" and self.tool_calls):
            raise ValueError("a message needs content (or, of the assistant, tool_calls)")
        if self.tool_calls and self.role != "assistant":
            raise ValueError(f"only the assistant makes tool_calls, not role '{self.role}'")
        if self.role == "tool" and self.tool_call_id is None:
            raise ValueError("a tool's message needs tool_call_id, the call that it answers")
        return self


class FunctionDefinition(RequestModel):
    name: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_.-]{1,64}$")]
    description: str | None = None
    parameters: dict[str, Any] | None = None
    """JSON schema of the arguments, handed to the chat template."""
    strict: Literal[False] | None = None
    """Only false: answers are not forced into the schema."""


class ToolDefinition(RequestModel):
    type: Literal["function"]
    function: FunctionDefinition


class TextFormat(RequestModel):
    type: Literal["text"]


class ChatRequest(SamplingRequest):
    """Body of `/v1/chat/completions`."""

    messages: Annotated[list[ChatMessage], Field(min_length=1)]
    """The conversation so far."""
    max_completion_tokens: Annotated[int, Field(ge=1)] | None = None
    """Another name of `max_tokens`."""
    logprobs: bool | None = None
    """Return the log-prob of each token."""
    top_logprobs: Annotated[int, Field(ge=0, le=20)] | None = None
    """Also the likeliest tokens at each position; only with `logprobs`."""
    tools: list[ToolDefinition] | None = None
    """Functions that the model may call."""
    tool_choice: Literal["auto", "none"] | None = None
    """`none` hides the tools from the model."""
    parallel_tool_calls: Literal[True] | None = None
    """Only true: the model decides."""
    response_format: TextFormat | None = None
    """Only text."""
    store: Literal[False] | None = None
    """Only false: nothing is kept."""
    metadata: dict[str, str] | None = None
    """Taken and not used."""

    @model_validator(mode="after")
    def _fits_together(self) -> ChatRequest:
        if self.top_logprobs and not self.logprobs:
            raise ValueError("top_logprobs go with logprobs = true only")
        both = (self.max_tokens, self.max_completion_tokens)
        if None not in both and both[0] != both[1]:
            raise ValueError(f"max_completion_tokens is {both[1]}, but max_tokens {both[0]}; give one of them")
        return self

    @property
    def asked_tokens(self) -> int | None:
        return self.max_completion_tokens or self.max_tokens

    @property
    def visible_tools(self) -> list[ToolDefinition]:
        return [] if self.tool_choice == "none" else self.tools or []


class CompletionsRequest(SamplingRequest):
    """Body of `/v1/completions`."""

    prompt: (
        Text | TokenIds | Annotated[list[Text], Field(min_length=1)] | Annotated[list[TokenIds], Field(min_length=1)]
    )
    """A text, its token ids, or a list of either. Token ids are taken as they are."""
    logprobs: Annotated[int, Field(ge=0, le=20)] | None = None
    """Return the log-prob of each token and this many of the likeliest tokens at each position."""
    best_of: Annotated[int, Field(ge=1, le=1)] | None = None
    """Only 1."""
    echo: Literal[False] | None = None
    """Only false."""
    suffix: None = None
    """Only null."""


class WeightsRequest(RequestModel):
    """Body of `/v1/weights`."""

    path: Text
    """Model folder, or run folder, inside one of `serve.weights_folders`."""
    policy_version: Annotated[int, Field(ge=0, lt=2**63)] | None = None
    """Version that answers will name; one more than the present one when not given."""
