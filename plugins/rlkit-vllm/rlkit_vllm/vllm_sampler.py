"""The log-probs that vLLM's samplers return, made those that rlkit defines.

Nothing of vLLM is imported with this module.
"""

from __future__ import annotations

import inspect
from typing import Any

import torch
from torch import Tensor

GREEDY_BELOW = 1e-5
"""Temperatures that vLLM takes for 0."""


def report_log_probs_before_truncation(sampler: Any) -> None:
    """Let a vLLM sampler return `log_softmax(logits / temperature)` of the chosen tokens; greedy ones at temperature 1.

    vLLM offers log-probs before the temperature, or after top-k, top-p and min-p; with one of those set, neither is what
    the trainer recomputes.
    """
    if hasattr(sampler, "sampling_states"):
        _temper_states(sampler)
    else:
        _temper_metadata(sampler)


def _temper_metadata(sampler: Any) -> None:
    """The sampler of vLLM's first model runner: log-probs are made of raw logits by `compute_logprobs`."""
    forward, compute_log_probs = sampler.forward, sampler.compute_logprobs
    temperatures: list[Tensor] = []

    def forward_noting_temperatures(logits: Tensor, sampling_metadata: Any, *others: Any, **named: Any) -> Any:
        if not sampling_metadata.all_greedy:
            temperatures.append(sampling_metadata.temperature)
        try:
            return forward(logits, sampling_metadata, *others, **named)
        finally:
            temperatures.clear()

    def compute_tempered(logits: Tensor) -> Any:
        if temperatures:
            divisor = torch.where(temperatures[0] < GREEDY_BELOW, 1.0, temperatures[0])
            logits = logits.float() / divisor[:, None]
        return compute_log_probs(logits)

    sampler.logprobs_mode = "raw_logprobs"
    sampler.forward, sampler.compute_logprobs = forward_noting_temperatures, compute_tempered


def _temper_states(sampler: Any) -> None:
    """The sampler of vLLM's second model runner: log-probs are made of the logits that `sample` returns."""
    sample = sampler.sample
    signature = inspect.signature(sample)

    def sample_returning_tempered(*arguments: Any, **named: Any) -> tuple[Tensor, Tensor]:
        given = signature.bind(*arguments, **named).arguments
        tempered = given["logits"].float().clone()
        sampler.sampling_states.apply_temperature(tempered, given["expanded_idx_mapping"], given["idx_mapping_np"])
        sampled, _ = sample(*arguments, **named)
        return sampled, tempered

    sampler.logprobs_mode = "processed_logprobs"
    sampler.sample = sample_returning_tempered
