"""A transformer backbone with one number for each position instead of next-token logits."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn


class ValueModel(nn.Module):
    """`.model` is the transformers base model, `.score` a Linear(hidden, 1) without bias, zero at first.

    The same layout as transformers' sequence classifiers with one label, so that its weights carry their names.
    """

    def __init__(self, backbone: Any, *, hidden_size: int, dtype: torch.dtype, device: str) -> None:
        super().__init__()
        self.model = backbone
        self.config = backbone.config
        self.score = nn.Linear(hidden_size, 1, bias=False, dtype=dtype, device=device)
        nn.init.zeros_(self.score.weight)

    def forward(self, input_ids: Tensor, **options: Any) -> Tensor:
        """Values [B, T] float32 for `input_ids` [B, T]; `options` go to the backbone (masks, positions, packed layout)."""
        options.setdefault("use_cache", False)
        hidden = self.model(input_ids=input_ids, **options).last_hidden_state
        values: Tensor = self.score(hidden)[..., 0]
        return values.float()

    def set_attn_implementation(self, name: str) -> None:
        self.model.set_attn_implementation(name)

    def gradient_checkpointing_enable(self, **options: Any) -> None:
        self.model.gradient_checkpointing_enable(**options)

    def gradient_checkpointing_disable(self) -> None:
        self.model.gradient_checkpointing_disable()
