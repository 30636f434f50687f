"""A rollout engine that is easy to read: transformers, one answer at a time.

    prompt --forward--> logits of the next token --choose--> token --forward--> ... until an end or max_tokens

What an engine owes to training: log-probs of the distribution that was sampled from before any filter, and answers that
depend on seed, prompt and weights alone, never on what else is in the batch.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from rlkit.errors import ModelError
from rlkit.models.causal import assign_weights
from rlkit.protocols.rollout_engine import EnginePart
from rlkit.rollout.engine_model import EngineModel
from rlkit.types import FinishReason, PromptBatch, Ragged, Rollouts, SamplingParams

from .options import SimpleEngineOptions
from .sampling import choose_token


@dataclass(frozen=True)
class Answer:
    """One sampled answer: tokens with their log-probs (nats), and why it ended."""

    token_ids: list[int]
    log_probs: list[float]
    finish_reason: FinishReason


class SimpleEngine:
    """Implements `rlkit.protocols.RolloutEngine`."""

    def __init__(self, options: SimpleEngineOptions, model: EngineModel) -> None:
        self.options = options
        self.source = model
        self.version = 0
        self.has_weights = True
        self.model: Any = model.family.build(
            model.folder,
            head="causal_lm",
            dtype=getattr(torch, model.dtype),
            device=model.device,
            trust_remote_code=model.trust_remote_code,
        )
        model.family.load_weights(self.model, model.folder)
        self.model.eval().requires_grad_(False)
        self.end_ids = end_ids(self.model.config, model.tokenizer.eos_token_id)
        self.context_length: int = self.model.config.get_text_config().max_position_embeddings

    def generate(self, prompts: PromptBatch, sampling: SamplingParams) -> Rollouts:
        """`sampling.samples` answers a prompt, side by side, in the order of the prompts."""
        self._check_ready(prompts, sampling)
        rows = [row for row in range(len(prompts)) for _ in range(sampling.samples)]
        with torch.inference_mode():
            answers = [
                self._answer(prompts.token_ids[row], sampling, generator)
                for row, generator in zip(rows, _generators(prompts, sampling), strict=True)
            ]
        response_ids = Ragged.from_rows([answer.token_ids for answer in answers], dtype=torch.int64)
        return Rollouts(
            prompt_ids=Ragged.from_rows([prompts.token_ids[row] for row in rows], dtype=torch.int64),
            response_ids=response_ids,
            response_mask=response_ids.with_values(torch.ones(response_ids.num_tokens, dtype=torch.bool)),
            rollout_log_probs=Ragged.from_rows([answer.log_probs for answer in answers], dtype=torch.float32),
            group_ids=torch.tensor(rows, dtype=torch.int64),
            finish_reasons=tuple(answer.finish_reason for answer in answers),
            policy_version=self.version,
            prompts=tuple(prompts.prompts[row] for row in rows),
        )

    def release(self, parts: Iterable[EnginePart]) -> None:
        """Give the weights' memory to the trainer. There is no cache between calls, so that is all."""
        if "weights" in parts:
            self.model.to("meta")
            self.has_weights = False

    def resume(self, parts: Iterable[EnginePart]) -> None:
        """Take the memory back; the values come with `update_weights`."""
        if "weights" in parts and any(parameter.is_meta for parameter in self.model.parameters()):
            fresh = self.source.family.build(
                self.source.folder,
                head="causal_lm",
                dtype=getattr(torch, self.source.dtype),
                device=self.source.device,
                trust_remote_code=self.source.trust_remote_code,
            )
            self.model = fresh.eval().requires_grad_(False)

    def update_weights(self, named_tensors: Iterable[tuple[str, Tensor]], version: int) -> None:
        """Replace all weights in place. `assign_weights` refuses unknown names, wrong shapes and missing tensors."""
        self._check_open()
        if any(parameter.is_meta for parameter in self.model.parameters()):
            raise ModelError("the engine has released its weights; call resume(['weights']) before update_weights")
        self.has_weights = False  # a failure half way leaves a mixture
        assign_weights(self.model, named_tensors, where="the weight update")
        self.has_weights = True
        self.version = version

    def close(self) -> None:
        self.model = None

    def _answer(self, prompt_ids: Sequence[int], sampling: SamplingParams, generator: torch.Generator) -> Answer:
        tokens: list[int] = []
        log_probs: list[float] = []
        ends = {*self.end_ids, *sampling.stop_token_ids}
        for logits in self._next_logits(prompt_ids, tokens):
            token, log_prob = choose_token(logits, sampling, generator, seen=[*prompt_ids, *tokens])
            tokens.append(token)
            log_probs.append(log_prob)
            if token in ends or self._says_stop(tokens, sampling.stop):
                return Answer(tokens, log_probs, "stop")
            if len(tokens) == sampling.max_tokens:
                break
        return Answer(tokens, log_probs, "length")

    def _next_logits(self, prompt_ids: Sequence[int], tokens: list[int]) -> Iterator[Tensor]:
        """Logits [V] float32 of the next token, again and again; `tokens` grows between two of them."""
        cache: Any = None
        new = list(prompt_ids)
        while True:
            batch = torch.tensor([new], device=self.source.device)
            output = self.model(batch, past_key_values=cache, use_cache=self.options.use_cache)
            logits = output.logits[0, -1].float().cpu()
            if not bool(torch.isfinite(logits).all()):
                raise ModelError(f"the model gives non-finite logits (weights of version {self.version})")
            yield logits
            cache = output.past_key_values if self.options.use_cache else None
            new = tokens[-1:] if self.options.use_cache else [*prompt_ids, *tokens]

    def _says_stop(self, tokens: Sequence[int], stop: Sequence[str]) -> bool:
        if not stop:
            return False
        text = self.source.tokenizer.decode(tokens, skip_special_tokens=False)
        return any(word in text for word in stop)

    def _check_open(self) -> None:
        if self.model is None:
            raise ModelError("the engine is closed")

    def _check_ready(self, prompts: PromptBatch, sampling: SamplingParams) -> None:
        self._check_open()
        if not self.has_weights:
            raise ModelError("the engine has no weights: call resume and update_weights before generate")
        for prompt, token_ids in zip(prompts.prompts, prompts.token_ids, strict=True):
            if not token_ids:
                raise ModelError(f"the prompt of row {prompt.row_id} has no tokens")
            if len(token_ids) + sampling.max_tokens > self.context_length:
                raise ModelError(
                    f"prompt ({len(token_ids)} tokens) and answer ({sampling.max_tokens}) of row {prompt.row_id} "
                    f"exceed the model's context of {self.context_length}; shorten one of them"
                )


def end_ids(config: Any, tokenizer_end: int | None) -> set[int]:
    """End-of-sequence tokens of the model and of the tokenizer."""
    declared = config.get_text_config().eos_token_id
    ids = set(declared) if isinstance(declared, list | tuple) else {declared}
    return (ids | {tokenizer_end}) - {None}


def _generators(prompts: PromptBatch, sampling: SamplingParams) -> Iterator[torch.Generator]:
    """One source of randomness for each answer, labelled by seed, row and sample: batching cannot matter.

    A row that is asked twice goes on with new samples instead of repeating them.
    """
    asked: Counter[int] = Counter()
    for prompt in prompts.prompts:
        for _ in range(sampling.samples):
            label = f"{sampling.seed}/{prompt.row_id}/{asked[prompt.row_id]}"
            asked[prompt.row_id] += 1
            digest = hashlib.sha256(label.encode()).digest()
            yield torch.Generator().manual_seed(int.from_bytes(digest[:8], "big") >> 1)
