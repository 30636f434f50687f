"""The `hf` rollout engine: a transformers model in this process."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor

from rlkit.errors import ModelError
from rlkit.models.causal import assign_weights
from rlkit.protocols.rollout_engine import EnginePart
from rlkit.rollout.engine_model import EngineModel
from rlkit.types import PromptBatch, Ragged, Rollouts, SamplingParams
from rlkit_hf.decode import Answers, DecodeLoop, Request
from rlkit_hf.forward import forward_for, use_attention
from rlkit_hf.options import HFEngineOptions
from rlkit_hf.sampling import answer_keys
from rlkit_hf.stopping import StopStrings


class HFEngine:
    """Implements `rlkit.protocols.RolloutEngine`."""

    def __init__(self, options: HFEngineOptions, model: EngineModel) -> None:
        self._options = options
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
        use_attention(self._model)
        self._context_length = _context_length(self._model.config)
        self._stop_ids = _end_of_sequence_ids(model, self._model.config)

    def generate(self, prompts: PromptBatch, sampling: SamplingParams) -> Rollouts:
        self._check_ready(prompts, sampling)
        requests = [
            Request(token_ids, sampling.samples, position * sampling.samples)
            for position, token_ids in enumerate(prompts.token_ids)
        ]
        requests.sort(key=lambda request: -len(request.token_ids))
        with torch.inference_mode():
            loop = DecodeLoop(
                forward_for(self._model, self._options.max_prefill_tokens),
                sampling,
                _keys(prompts, sampling),
                stop_ids=[*self._stop_ids, *sampling.stop_token_ids],
                stop_strings=StopStrings(sampling.stop, self._source.tokenizer) if sampling.stop else None,
                vocabulary=self._model.config.get_text_config().vocab_size,
                max_batch_tokens=self._options.max_batch_tokens,
                device=self._device,
            )
            answers = loop.run(requests)
        return self._rollouts(prompts, sampling.samples, answers)

    def resume(self, parts: Iterable[EnginePart]) -> None:
        if "weights" not in parts or not self._shapes:
            return
        for name, parameter in self._model.named_parameters():
            parameter.data = torch.empty(self._shapes[name], dtype=parameter.dtype, device=self._device)
        self._shapes = {}

    def release(self, parts: Iterable[EnginePart]) -> None:
        # The KV cache lives only as long as one `generate`.
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
        self._model = None
        self._shapes = {}
        if self._device.type == "cuda":
            torch.cuda.empty_cache()

    def _check_open(self) -> None:
        if self._model is None:
            raise ModelError("rollout engine hf is closed")

    def _check_ready(self, prompts: PromptBatch, sampling: SamplingParams) -> None:
        self._check_open()
        if not self._weights_present:
            raise ModelError(
                "rollout engine hf has no whole set of weights: call resume and update_weights before generate"
            )
        for prompt, token_ids in zip(prompts.prompts, prompts.token_ids, strict=True):
            if not token_ids:
                raise ModelError(f"the prompt of row {prompt.row_id} has no tokens; there is nothing to continue")
            if len(token_ids) + sampling.max_tokens > self._context_length:
                raise ModelError(
                    f"the prompt of row {prompt.row_id} has {len(token_ids)} tokens; with {sampling.max_tokens} tokens of answer "
                    f"that is beyond the model's context of {self._context_length}; shorten the prompt or the answer"
                )

    def _rollouts(self, prompts: PromptBatch, samples: int, answers: Answers) -> Rollouts:
        if not bool(torch.isfinite(answers.log_probs.values).all()):
            raise ModelError(
                f"the model answered with non-finite logits (weights of version {self._version}); training may have diverged"
            )
        rows = [row for row in range(len(prompts)) for _ in range(samples)]
        return Rollouts(
            prompt_ids=Ragged.from_rows(prompts.token_ids, dtype=torch.int64).select(rows),
            response_ids=answers.token_ids,
            response_mask=answers.token_ids.with_values(torch.ones_like(answers.token_ids.values, dtype=torch.bool)),
            rollout_log_probs=answers.log_probs,
            group_ids=torch.tensor(rows, dtype=torch.int64),
            finish_reasons=answers.finish_reasons,
            policy_version=self._version,
            prompts=tuple(prompts.prompts[row] for row in rows),
        )


def _keys(prompts: PromptBatch, sampling: SamplingParams) -> Tensor:
    """One key an answer. A row that is asked twice in a batch goes on with new samples instead of repeating them."""
    asked: Counter[int] = Counter()
    row_ids: list[int] = []
    samples: list[int] = []
    for prompt in prompts.prompts:
        first = asked[prompt.row_id] * sampling.samples
        asked[prompt.row_id] += 1
        row_ids += [prompt.row_id] * sampling.samples
        samples += range(first, first + sampling.samples)
    return answer_keys(sampling.seed, row_ids, samples)


def _context_length(config: Any) -> int:
    text = config.get_text_config()
    for key in ("max_position_embeddings", "n_positions", "max_seq_len"):
        if isinstance(getattr(text, key, None), int):
            return int(getattr(text, key))
    return 2**62  # recurrent models have no limit


def _end_of_sequence_ids(model: EngineModel, config: Any) -> Sequence[int]:
    """The tokenizer's end-of-sequence token and those of generation_config.json (chat models often have two), else config.json."""
    declared = getattr(config.get_text_config(), "eos_token_id", None)
    path = model.folder / "generation_config.json"
    if path.is_file():
        try:
            declared = json.loads(path.read_text(encoding="utf-8")).get("eos_token_id", declared)
        except (ValueError, AttributeError) as error:
            raise ModelError(f"'{path}' is not valid JSON: {error}") from error
    ids = [*(declared if isinstance(declared, list | tuple) else [declared]), model.tokenizer.eos_token_id]
    return sorted({token for token in ids if token is not None})
