"""Roles on the test kit's tiny model, and small batches for them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch

from rlkit.models.registry import find_family
from rlkit.protocols.actor import ModelRole, OptimizerSettings
from rlkit.testing.tiny_model import tiny_model
from rlkit.types import Prompt, Ragged, Rollouts


@pytest.fixture
def settings() -> Callable[..., OptimizerSettings]:
    """Function: optimizer settings that differ from plain AdamW only in what is named."""

    def make(**changes: Any) -> OptimizerSettings:
        plain: dict[str, Any] = {
            "lr": 0.1,
            "weight_decay": 0.0,
            "betas": (0.9, 0.99),
            "eps": 1e-8,
            "max_grad_norm": 1e9,
            "schedule": "constant",
            "warmup_steps": 0,
            "total_steps": 10,
            "min_lr_ratio": 0.0,
        }
        return OptimizerSettings(**{**plain, **changes})

    return make


@pytest.fixture
def role(settings: Callable[..., OptimizerSettings]) -> Callable[..., ModelRole]:
    """Function: a trained role on the tiny model."""

    def make(**changes: Any) -> ModelRole:
        folder = changes.pop("path", None) or tiny_model()
        plain: dict[str, Any] = {
            "path": folder,
            "family": find_family(folder),
            "dtype": "float32",
            "device": "cpu",
            "micro_batch_tokens": 64,
            "gradient_checkpointing": False,
            "trust_remote_code": False,
            "seed": 0,
            "optimizer": settings(lr=1e-3),
        }
        return ModelRole(**{**plain, **changes})

    return make


@pytest.fixture(scope="session")
def rollouts() -> Callable[[Sequence[Sequence[int]], Sequence[Sequence[int]]], Rollouts]:
    """Function: rollouts with these prompt and response tokens."""

    def make(prompts: Sequence[Sequence[int]], responses: Sequence[Sequence[int]]) -> Rollouts:
        response_ids = Ragged.from_rows(responses, dtype=torch.int64)
        return Rollouts(
            prompt_ids=Ragged.from_rows(prompts, dtype=torch.int64),
            response_ids=response_ids,
            response_mask=response_ids.with_values(torch.ones(response_ids.num_tokens, dtype=torch.bool)),
            rollout_log_probs=None,
            group_ids=torch.arange(len(prompts)),
            finish_reasons=tuple("stop" for _ in prompts),
            policy_version=0,
            prompts=tuple(Prompt(row_id=row, text="?") for row in range(len(prompts))),
        )

    return make
