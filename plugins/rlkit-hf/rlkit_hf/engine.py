"""The `hf` rollout engine: a transformers model in this process."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, cast

import torch
from torch import Tensor

from rlkit.errors import ModelError
from rlkit.models.causal import assign_weights
from rlkit.protocols.rollout_engine import EnginePart
from rlkit.rollout.answers import check_prompt, end_token_ids, lay_out, sample_numbers
from rlkit.rollout.engine_model import EngineModel
from rlkit.rollout.stop_strings import StopStrings
from rlkit.types import (
    CompletionChunk,
    CompletionRequest,
    FinishReason,
    PromptBatch,
    Rollouts,
    SamplingParams,
)
from rlkit_hf.forward import forward_for
from rlkit_hf.linear import use_fast_linear
from rlkit_hf.options import HFEngineOptions
from rlkit_hf.rows import Row
from rlkit_hf.sampling import answer_keys
from rlkit_hf.scheduler import NonFiniteLogitsError, Scheduler


class HFEngine:
    """Implements `rlkit.protocols.RolloutEngine` and `rlkit.protocols.ServingEngine`, with one scheduler for both.

    `update_weights` may come between steps: requests in progress go on with the new weights after what they have.
    """

    def __init__(self, options: HFEngineOptions, model: EngineModel) -> None:
        self._source = model
        self._device = torch.device(model.device)
        self._version = 0
        self._weights_present = True
        self._shapes: dict[str, torch.Size] = {}
        self._model: Any = model.family.build(
            model.folder,
            head="causal_lm",
            dtype=getattr(torch, model.dtype),
            device=model.device,
            trust_remote_code=model.trust_remote_code,
        )
        model.family.load_weights(self._model, model.folder)
        self._model.requires_grad_(False)
        self._model.eval()
        use_fast_linear(self._model)
        config: Any = self._model.config
        self._context_length = _context_length(config)
        self._stop_ids = end_token_ids(model)
        self._scheduler = Scheduler(
            forward_for(
                self._model, budget_tokens=options.max_batch_tokens, max_prefill_tokens=options.max_prefill_tokens
            ),
            vocabulary=config.get_text_config().vocab_size,
            max_rows=options.rows_on(self._device.type),
            budget_tokens=options.max_batch_tokens,
            device=self._device,
        )
        self._requests: dict[str, Row] = {}
        self._names: dict[Row, str] = {}

    def generate(self, prompts: PromptBatch, sampling: SamplingParams) -> Rollouts:
        self._check_ready()
        if self.has_work:
            raise ModelError("rollout engine hf is serving requests; finish or abort them before generate")
        for prompt, token_ids in zip(prompts.prompts, prompts.token_ids, strict=True):
            self._check_prompt(f"the prompt of row {prompt.row_id}", token_ids, sampling.max_tokens)
        rows = self._rows(prompts, sampling)
        # A resumed run remembers no earlier answers, and rounding depends on which rows share a pass.
        self._scheduler.forget_lengths()
        for start in range(0, len(rows), sampling.samples):
            self._scheduler.submit(rows[start : start + sampling.samples])
        while self._scheduler.has_work:
            self._advance()
        return self._rollouts(prompts, sampling.samples, rows)

    @property
    def has_work(self) -> bool:
        return self._scheduler.has_work

    def submit(self, request: CompletionRequest) -> None:
        self._check_ready()
        if request.request_id in self._requests:
            raise ModelError(
                f"request '{request.request_id}' is still being answered; give each live request its own id"
            )
        sampling = request.sampling
        self._check_prompt(f"the prompt of request '{request.request_id}'", request.prompt_ids, sampling.max_tokens)
        key = int(answer_keys(sampling.seed, [request.row_id], [request.sample])[0])
        stop_strings = self._stop_strings(sampling)
        row = Row(request.prompt_ids, sampling, key, self._stops(sampling), stop_strings, request.top_log_probs)
        self._requests[request.request_id] = row
        self._names[row] = request.request_id
        self._scheduler.submit([row])

    def abort(self, request_ids: Iterable[str]) -> None:
        rows = [self._requests[request_id] for request_id in set(request_ids) if request_id in self._requests]
        self._scheduler.abort(rows)
        for row in rows:
            del self._requests[self._names.pop(row)]

    def step(self) -> Sequence[CompletionChunk]:
        if not self.has_work:
            return ()
        self._check_ready()
        rows = self._advance()
        chunks = [self._chunk(row) for row in rows]
        for row in rows:
            if row.finish_reason is not None:
                del self._requests[self._names.pop(row)]
        return chunks

    def resume(self, parts: Iterable[EnginePart]) -> None:
        if "weights" not in parts or not self._shapes:
            return
        for name, parameter in self._model.named_parameters():
            parameter.data = torch.empty(self._shapes[name], dtype=parameter.dtype, device=self._device)
        self._shapes = {}

    def release(self, parts: Iterable[EnginePart]) -> None:
        if "kv_cache" in parts:
            self._scheduler.release()
        if "weights" in parts and not self._shapes:
            for name, parameter in self._model.named_parameters():
                self._shapes[name] = parameter.shape
                parameter.data = torch.empty(0, dtype=parameter.dtype, device=self._device)
            self._weights_present = False
        if self._device.type == "cuda":
            torch.cuda.empty_cache()

    def update_weights(self, named_tensors: Iterable[tuple[str, Tensor]], version: int) -> None:
        self._check_open()
        if self._shapes:
            raise ModelError(
                "rollout engine hf has released its weights; call resume(['weights']) before update_weights"
            )
        self._weights_present = False  # a failure half way leaves a mixture
        assign_weights(self._model, named_tensors, where="the weight update")
        self._weights_present = True
        self._version = version

    def close(self) -> None:
        self._forget_everything()
        self._model = None
        self._shapes = {}
        if self._device.type == "cuda":
            torch.cuda.empty_cache()

    def _advance(self) -> list[Row]:
        try:
            return self._scheduler.step()
        except BaseException as error:
            self._forget_everything()  # rows half way through a step cannot go on
            if isinstance(error, NonFiniteLogitsError):
                raise ModelError(
                    f"the model answered with non-finite logits (weights of version {self._version}); training may have diverged"
                ) from None
            raise

    def _forget_everything(self) -> None:
        self._scheduler.clear()
        self._requests.clear()
        self._names.clear()

    def _check_open(self) -> None:
        if self._model is None:
            raise ModelError("rollout engine hf is closed")

    def _check_ready(self) -> None:
        self._check_open()
        if not self._weights_present:
            raise ModelError(
                "rollout engine hf has no whole set of weights: call resume and update_weights before generate"
            )

    def _check_prompt(self, name: str, token_ids: Sequence[int], max_tokens: int) -> None:
        check_prompt(token_ids, max_tokens, context_length=self._context_length, name=name)

    def _rows(self, prompts: PromptBatch, sampling: SamplingParams) -> list[Row]:
        """`sampling.samples` rows a prompt. A prompt that is asked twice goes on with new samples, without repeating any."""
        strings, stop_ids = self._stop_strings(sampling), self._stops(sampling)
        row_ids = [prompt.row_id for prompt in prompts.prompts for _ in range(sampling.samples)]
        samples = [number for numbers in sample_numbers(prompts, sampling.samples) for number in numbers]
        keys = answer_keys(sampling.seed, row_ids, samples).tolist()
        prompt_ids = [token_ids for token_ids in prompts.token_ids for _ in range(sampling.samples)]
        return [
            Row(token_ids, sampling, key, stop_ids, strings) for token_ids, key in zip(prompt_ids, keys, strict=True)
        ]

    def _stops(self, sampling: SamplingParams) -> frozenset[int]:
        return frozenset([*self._stop_ids, *sampling.stop_token_ids])

    def _stop_strings(self, sampling: SamplingParams) -> StopStrings | None:
        return StopStrings(sampling.stop, self._source.tokenizer) if sampling.stop else None

    def _chunk(self, row: Row) -> CompletionChunk:
        """The newest token of a row."""
        return CompletionChunk(
            request_id=self._names[row],
            token_ids=(row.last_token,),
            log_probs=(row.log_probs[-1],),
            top_log_probs=(row.alternatives[-1],) if row.top_log_probs else (),
            finish_reason=row.finish_reason,
            policy_version=self._version,
        )

    def _rollouts(self, prompts: PromptBatch, samples: int, rows: Sequence[Row]) -> Rollouts:
        return lay_out(
            prompts,
            samples,
            [row.token_ids for row in rows],
            [row.log_probs for row in rows],
            [cast(FinishReason, row.finish_reason) for row in rows],
            policy_version=self._version,
        )


def _context_length(config: Any) -> int:
    text = config.get_text_config()
    for key in ("max_position_embeddings", "n_positions", "max_seq_len"):
        if isinstance(getattr(text, key, None), int):
            return int(getattr(text, key))
    return 2**62  # recurrent models have no limit
