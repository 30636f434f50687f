"""The `vllm` rollout engine: what rlkit asks of an engine, in terms of `vllm_api`."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field, replace

from torch import Tensor

from rlkit.data.images import open_image
from rlkit.errors import ModelError
from rlkit.models.image_text import takes_images
from rlkit.models.shape import read_shape
from rlkit.protocols.rollout_engine import EnginePart
from rlkit.protocols.serving_engine import ServedApp
from rlkit.rollout.answers import check_prompt, end_token_ids, lay_out, sample_numbers
from rlkit.rollout.engine_model import EngineModel
from rlkit.rollout.stop_strings import StopStrings
from rlkit.types import AdapterWeights, PromptBatch, Rollouts, SamplingParams
from rlkit.types.completion import CompletionChunk, CompletionRequest
from rlkit.types.rollouts import FinishReason
from rlkit.types.server_settings import ServerSettings
from rlkit_vllm.expected_weights import ExpectedWeights
from rlkit_vllm.options import CPU_KV_CACHE_GIB, VLLMEngineOptions
from rlkit_vllm.serving import served_vllm
from rlkit_vllm.vllm_adapters import MAX_ADAPTER_RANK
from rlkit_vllm.vllm_api import MAX_TOP_LOG_PROBS, MIN_TEMPERATURE, VLLM, Answered, EngineSettings, check_version
from rlkit_vllm.vllm_server_api import FrontSettings


@dataclass
class _Answer:
    """One answer while it grows."""

    token_ids: list[int] = field(default_factory=list)
    log_probs: list[float] = field(default_factory=list)
    finish_reason: FinishReason = "abort"


@dataclass
class _Live:
    """What must be known about a request until it is over; `token_ids` only when there are stop strings."""

    top_log_probs: int
    stop_strings: StopStrings | None
    token_ids: list[int] = field(default_factory=list)


class VLLMEngine:
    """Implements `rlkit.protocols.RolloutEngine` and `rlkit.protocols.serving_engine.ServingEngine`."""

    def __init__(self, options: VLLMEngineOptions, model: EngineModel) -> None:
        check_version()
        self._source = model
        self._context_length = _context_length(options, model)
        self._end_ids = end_token_ids(model)
        self._expected = ExpectedWeights(model)
        self._version = 0
        self._weights_present = True
        self._released: frozenset[EnginePart] = frozenset()
        self._live: dict[str, _Live] = {}
        settings = _settings(options, model, self._context_length)
        self._adapter_rank = settings.adapter_rank
        self._images_per_prompt = settings.images_per_prompt or 0
        self._vllm: VLLM | None = VLLM(settings)

    @staticmethod
    def serve(
        options: VLLMEngineOptions, *, model: EngineModel, settings: ServerSettings
    ) -> AbstractAsyncContextManager[ServedApp]:
        """As `rlkit.protocols.EngineServer`."""
        front = FrontSettings(
            model_name=settings.model_name,
            default_max_tokens=settings.default_max_tokens,
            drain_timeout_s=settings.drain_timeout_s,
            tool_call_parser=options.tool_call_parser,
            image_hosts=options.image_hosts,
        )
        return served_vllm(_settings(options, model, _context_length(options, model)), front, model)

    def generate(self, prompts: PromptBatch, sampling: SamplingParams) -> Rollouts:
        self._check_ready()
        _check_temperature(sampling)
        for prompt, token_ids in zip(prompts.prompts, prompts.token_ids, strict=True):
            name = f"the prompt of row {prompt.row_id}"
            check_prompt(token_ids, sampling.max_tokens, context_length=self._context_length, name=name)
        one, numbers = replace(sampling, samples=1), sample_numbers(prompts, sampling.samples)
        answers = self._answers(
            [
                CompletionRequest(
                    f"{position}-{sample}", token_ids, one, row_id=prompt.row_id, sample=sample, images=prompt.images
                )
                for position, (prompt, token_ids) in enumerate(zip(prompts.prompts, prompts.token_ids, strict=True))
                for sample in numbers[position]
            ]
        )
        return lay_out(
            prompts,
            sampling.samples,
            [answer.token_ids for answer in answers],
            [answer.log_probs for answer in answers],
            [answer.finish_reason for answer in answers],
            policy_version=self._version,
        )

    def resume(self, parts: Iterable[EnginePart]) -> None:
        vllm = self._open()
        waking = self._released & frozenset(parts)
        vllm.wake(waking)
        self._released -= waking

    def release(self, parts: Iterable[EnginePart]) -> None:
        vllm = self._open()
        released = self._released | frozenset(parts)
        if released == self._released:
            return
        vllm.wake(self._released)  # vLLM puts to sleep only what is awake
        vllm.sleep(released)
        self._released = released
        if "weights" in released:
            self._weights_present = False

    def update_weights(self, named_tensors: Iterable[tuple[str, Tensor]], version: int) -> None:
        vllm = self._open()
        if "weights" in self._released:
            raise ModelError(
                "rollout engine vllm has released its weights; call resume(['weights']) before update_weights"
            )
        self._check_idle("update_weights")
        self._weights_present = False  # a failure half way leaves a mixture
        vllm.load_weights(self._expected.checked(named_tensors))
        self._weights_present = True
        self._version = version

    @property
    def takes_adapters(self) -> bool:
        """As `rlkit.protocols.AdapterEngine`."""
        return self._adapter_rank > 0

    def update_adapter(self, adapter: AdapterWeights, version: int) -> None:
        """As `rlkit.protocols.AdapterEngine`: two small matrices a layer instead of the model."""
        vllm = self._open()
        if not self._weights_present:
            raise ModelError(
                "rollout engine vllm has no base model for the adapter: call resume and update_weights before update_adapter"
            )
        self._check_idle("update_adapter")
        if adapter.rank > self._adapter_rank:
            raise ModelError(
                f"the adapter has rank {adapter.rank}, but rollout engine vllm was started for {self._adapter_rank} at most"
            )
        self._expected.check_adapter(adapter)
        vllm.load_adapter(adapter)
        self._version = version

    def close(self) -> None:
        if self._vllm is not None:
            self._vllm.close()
            self._vllm = None

    @property
    def has_work(self) -> bool:
        return self._vllm is not None and self._vllm.has_work

    def submit(self, request: CompletionRequest) -> None:
        self._check_ready()
        _check_temperature(request.sampling)
        name = f"the prompt of request {request.request_id}"
        max_tokens = request.sampling.max_tokens
        check_prompt(request.prompt_ids, max_tokens, context_length=self._context_length, name=name)
        if request.top_log_probs > MAX_TOP_LOG_PROBS:
            raise ModelError(
                f"vLLM names {MAX_TOP_LOG_PROBS} alternatives at most, got top_log_probs = {request.top_log_probs}"
            )
        self._submit(request)

    def abort(self, request_ids: Iterable[str]) -> None:
        ids = list(request_ids)
        self._open().abort(ids)
        for request_id in ids:
            self._live.pop(request_id, None)

    def step(self) -> Sequence[CompletionChunk]:
        return [
            CompletionChunk(
                answered.request_id,
                answered.token_ids,
                answered.log_probs,
                answered.top_log_probs,
                answered.finish_reason,
                self._version,
            )
            for answered in self._step()
        ]

    def _answers(self, requests: Sequence[CompletionRequest]) -> list[_Answer]:
        """Answers to all `requests`, in their order; nothing is left running when one fails."""
        answers = {request.request_id: _Answer() for request in requests}
        try:
            for request in requests:
                self._submit(request)
            while self.has_work:
                for answered in self._step():
                    answer = answers[answered.request_id]
                    answer.token_ids += answered.token_ids
                    answer.log_probs += answered.log_probs
                    answer.finish_reason = answered.finish_reason or answer.finish_reason
        except BaseException:
            self.abort(answers)
            raise
        return list(answers.values())

    def _submit(self, request: CompletionRequest) -> None:
        sampling = request.sampling
        stop_strings = StopStrings(sampling.stop, self._source.tokenizer) if sampling.stop else None
        self._open().submit(
            request.request_id,
            request.prompt_ids,
            sampling,
            seed=answer_seed(sampling.seed, request.row_id, request.sample),
            stop_token_ids=sorted({*self._end_ids, *sampling.stop_token_ids}),
            top_log_probs=request.top_log_probs,
            images=[open_image(content) for content in self._checked_images(request)],
        )
        self._live[request.request_id] = _Live(request.top_log_probs, stop_strings)

    def _checked_images(self, request: CompletionRequest) -> tuple[bytes, ...]:
        if len(request.images) > self._images_per_prompt:
            takes = f"{self._images_per_prompt} (images_per_prompt)" if takes_images(self._source.folder) else "none"
            raise ModelError(
                f"the prompt of row {request.row_id} has {len(request.images)} images, but rollout engine vllm with the model "
                f"in '{self._source.folder}' takes {takes}"
            )
        return request.images

    def _step(self) -> list[Answered]:
        """One step of vLLM, with answers ended at their stop strings."""
        chunks: list[Answered] = []
        for answered in self._open().step():
            live = self._live.get(answered.request_id)
            if live is None or not (answered.token_ids or answered.finish_reason):
                continue
            chunk = self._cut(answered, live)
            if chunk.finish_reason is not None:
                del self._live[chunk.request_id]
            chunks.append(chunk)
        return chunks

    def _cut(self, answered: Answered, live: _Live) -> Answered:
        """Without what follows a stop string, and with as many alternatives as were asked for."""
        end, reason = len(answered.token_ids), answered.finish_reason
        if live.stop_strings is not None:
            for count, token in enumerate(answered.token_ids, start=1):
                live.token_ids.append(token)
                if live.stop_strings.end(live.token_ids):
                    if reason is None:
                        self._open().abort([answered.request_id])
                    end, reason = count, "stop"
                    break
        top = live.top_log_probs
        return Answered(
            answered.request_id,
            answered.token_ids[:end],
            answered.log_probs[:end],
            tuple(alternatives[:top] for alternatives in answered.top_log_probs[:end]) if top else (),
            reason,
        )

    def _open(self) -> VLLM:
        if self._vllm is None:
            raise ModelError("rollout engine vllm is closed")
        return self._vllm

    def _check_idle(self, method: str) -> None:
        if self._open().has_work:
            raise ModelError(f"rollout engine vllm has unfinished requests; finish or abort them before {method}")

    def _check_ready(self) -> None:
        self._open()
        if not self._weights_present:
            raise ModelError(
                "rollout engine vllm has no whole set of weights: call resume and update_weights before generate"
            )
        if self._released:
            raise ModelError("rollout engine vllm has released its KV cache; call resume(['kv_cache']) before generate")


def answer_seed(seed: int, row_id: int, sample: int) -> int:
    """A 63-bit seed for each answer, so that it does not depend on what else is asked."""
    digest = hashlib.blake2b(f"{seed} {row_id} {sample}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1


def _check_temperature(sampling: SamplingParams) -> None:
    if 0 < sampling.temperature < MIN_TEMPERATURE:
        raise ModelError(
            f"vLLM samples at temperatures of {MIN_TEMPERATURE} and more, got {sampling.temperature:g}; use 0 for greedy decoding"
        )


def _context_length(options: VLLMEngineOptions, model: EngineModel) -> int:
    longest = read_shape(model.folder).context_length
    if options.max_model_len > longest:
        raise ModelError(f"max_model_len = {options.max_model_len} is beyond the model's context of {longest} tokens")
    return options.max_model_len or longest


def _settings(options: VLLMEngineOptions, model: EngineModel, context_length: int) -> EngineSettings:
    on_cpu = model.device == "cpu"
    if model.device not in ("cpu", "cuda", "cuda:0"):
        raise ModelError(
            f"rollout engine vllm computes on the first visible device, not on {model.device}; choose with CUDA_VISIBLE_DEVICES"
        )
    kv_cache_gib = options.kv_cache_gib or (CPU_KV_CACHE_GIB if on_cpu else 0.0)
    return EngineSettings(
        folder=model.folder,
        dtype=model.dtype if options.dtype == "model" else options.dtype,
        device=model.device,
        seed=model.seed,
        trust_remote_code=model.trust_remote_code,
        max_model_len=context_length,
        max_num_seqs=options.max_num_seqs,
        # vLLM wants room for one token of each sequence.
        max_num_batched_tokens=max(options.max_num_batched_tokens, options.max_num_seqs),
        tensor_parallel_size=options.tensor_parallel_size,
        gpu_memory_utilization=options.gpu_memory_utilization,
        kv_cache_bytes=int(kv_cache_gib * 2**30) or None,
        enforce_eager=on_cpu if options.enforce_eager == "auto" else options.enforce_eager,
        enable_prefix_caching=options.enable_prefix_caching,
        images_per_prompt=options.images_per_prompt if takes_images(model.folder) else None,
        adapter_rank=model.lora_rank if options.lora and model.lora_rank <= MAX_ADAPTER_RANK else 0,
    )
