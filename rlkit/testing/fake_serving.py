"""An engine without a model that can be asked while it answers, for tests of whatever stands in front of one."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from rlkit.errors import ModelError
from rlkit.protocols import Tokenizer
from rlkit.types import CompletionChunk, CompletionRequest, PromptBatch, Ragged, Rollouts, SamplingParams

if TYPE_CHECKING:
    from torch import Tensor

    from rlkit.types import FinishReason

CHOSEN_LOG_PROB = -0.25
"""Of every token that is sampled."""

Answer = Callable[[CompletionRequest], Sequence[int]]


def repeat_prompt(request: CompletionRequest) -> Sequence[int]:
    """The prompt's tokens without end, in an order that seed, row and sample decide; greedily in their own."""
    sampling, prompt = request.sampling, request.prompt_ids
    stride = 1 if sampling.temperature == 0 else 1 + (7 * sampling.seed + 3 * request.row_id + 5 * request.sample) % 11
    return [prompt[(position * stride) % len(prompt)] for position in range(sampling.max_tokens)]


@dataclass
class _LiveRequest:
    request: CompletionRequest
    answer: Sequence[int]
    produced: list[int] = field(default_factory=list)


@dataclass
class FakeServingEngine:
    """A `RolloutEngine` and a `ServingEngine`: one token a step for every request, chosen by `answer`.

    An answer ends at its `max_tokens`, where `answer` ends, at the end-of-sequence token, or with a stop string or
    token. `delay_s` is how long a step takes. `max_live` requests run at once, the others wait. `calls` is what was
    asked of the engine, in order.
    """

    tokenizer: Tokenizer
    answer: Answer = repeat_prompt
    delay_s: float = 0.0
    context_length: int = 128
    max_live: int = 1_000_000
    version: int = 0
    calls: list[str] = field(default_factory=list)
    weights: dict[str, Any] = field(default_factory=dict)
    _live: dict[str, _LiveRequest] = field(default_factory=dict)

    @property
    def has_work(self) -> bool:
        return bool(self._live)

    def submit(self, request: CompletionRequest) -> None:
        longest = len(request.prompt_ids) + request.sampling.max_tokens
        if not request.prompt_ids or longest > self.context_length:
            raise ModelError(f"{longest} tokens do not fit the context of {self.context_length}")
        self.calls.append("submit")
        self._live[request.request_id] = _LiveRequest(request, self.answer(request))

    def abort(self, request_ids: Iterable[str]) -> None:
        self.calls.append("abort")
        for request_id in request_ids:
            self._live.pop(request_id, None)

    def step(self) -> Sequence[CompletionChunk]:
        time.sleep(self.delay_s)
        chunks = [self._advance(live) for live in list(self._live.values())[: self.max_live]]
        for chunk in chunks:
            if chunk.finish_reason is not None:
                del self._live[chunk.request_id]
        return chunks

    def generate(self, prompts: PromptBatch, sampling: SamplingParams) -> Rollouts:
        import torch

        self.calls.append("generate")
        one = replace(sampling, samples=1)
        done: list[tuple[list[int], FinishReason]] = []
        rows = [row for row in range(len(prompts)) for _ in range(sampling.samples)]
        for number, row in enumerate(rows):
            row_id, sample = prompts.prompts[row].row_id, number % sampling.samples
            request = CompletionRequest("generate", prompts.token_ids[row], one, row_id=row_id, sample=sample)
            live, reason = _LiveRequest(request, self.answer(request)), None
            while reason is None:
                reason = self._advance(live).finish_reason
            done.append((live.produced, reason))
        responses = Ragged.from_rows([tokens for tokens, _ in done], dtype=torch.int64)
        return Rollouts(
            prompt_ids=Ragged.from_rows([prompts.token_ids[row] for row in rows], dtype=torch.int64),
            response_ids=responses,
            response_mask=responses.with_values(torch.ones(responses.num_tokens, dtype=torch.bool)),
            rollout_log_probs=responses.with_values(torch.full((responses.num_tokens,), CHOSEN_LOG_PROB)),
            group_ids=torch.tensor(rows, dtype=torch.int64),
            finish_reasons=tuple(reason for _, reason in done),
            policy_version=self.version,
            prompts=tuple(prompts.prompts[row] for row in rows),
        )

    def resume(self, parts: Iterable[str]) -> None:
        self.calls.append("resume")

    def release(self, parts: Iterable[str]) -> None:
        self.calls.append("release")

    def update_weights(self, named_tensors: Iterable[tuple[str, Tensor]], version: int) -> None:
        self.calls.append("update_weights")
        self.weights = dict(named_tensors)
        self.version = version

    def close(self) -> None:
        self.calls.append("close")

    def _advance(self, live: _LiveRequest) -> CompletionChunk:
        position, request = len(live.produced), live.request
        token = live.answer[position] if position < len(live.answer) else self.tokenizer.eos_token_id
        assert token is not None
        live.produced.append(token)
        alternatives = [(token, CHOSEN_LOG_PROB)]
        alternatives += [((token + step) % len(self.tokenizer), CHOSEN_LOG_PROB - step) for step in range(1, 64)]
        return CompletionChunk(
            request.request_id,
            token_ids=(token,),
            log_probs=(CHOSEN_LOG_PROB,),
            top_log_probs=(tuple(alternatives[: request.top_log_probs]),) if request.top_log_probs else (),
            finish_reason=self._finish_reason(live),
            policy_version=self.version,
        )

    def _finish_reason(self, live: _LiveRequest) -> FinishReason | None:
        sampling, newest = live.request.sampling, live.produced[-1]
        if newest == self.tokenizer.eos_token_id or newest in sampling.stop_token_ids:
            return "stop"
        text = self.tokenizer.decode(live.produced, skip_special_tokens=False) if sampling.stop else ""
        if any(stop in text for stop in sampling.stop):
            return "stop"
        return "length" if len(live.produced) >= sampling.max_tokens else None
