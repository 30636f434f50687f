"""Root modules: what is computed inside one forward pass, so that parameters are only touched there."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from rlkit.algos.log_probs import TokenStatistics, chunked_log_probs
from rlkit.models.packed import packed_forward, use_packed_attention
from rlkit_fsdp.packed_rows import PackedRows
from rlkit_fsdp.packing_check import check_packed, plain_hidden_states, plain_log_probs, probe_rows


class PackedCausalLM(nn.Module):
    """A causal language model that answers with log-probs and entropies, never with logits."""

    def __init__(self, model: Any, compute_dtype: torch.dtype) -> None:
        """Raises `ModelError` for an architecture that gives other log-probs when run padding-free."""
        super().__init__()
        embeddings = model.get_input_embeddings().weight
        rows = probe_rows(embeddings.shape[0], embeddings.device)
        expected = plain_log_probs(model, rows)
        self.model = model
        self.compute_dtype = embeddings.dtype
        use_packed_attention(model)
        check_packed(type(model).__name__, expected, lambda: self(rows, 1.0)[0], embeddings.dtype)
        self.compute_dtype = compute_dtype

    def forward(self, rows: PackedRows, temperature: float, *, probability_squares: bool = False) -> TokenStatistics:
        """Of `rows.targets` under softmax(logits / temperature), [N] float32."""
        return self.statistics(self.hidden_states(rows), rows, temperature, probability_squares=probability_squares)

    def hidden_states(self, rows: PackedRows) -> Tensor:
        """Last hidden states [N, hidden] at `rows.predict_at`."""
        device_type = rows.token_ids.device.type
        mixed = self.compute_dtype != torch.float32
        with torch.autocast(device_type, dtype=self.compute_dtype if mixed else torch.bfloat16, enabled=mixed):
            hidden = packed_forward(self.model.get_decoder(), rows.token_ids, rows.layout)
        return hidden[rows.predict_at]

    def statistics(
        self, hidden: Tensor, rows: PackedRows, temperature: float, *, probability_squares: bool
    ) -> TokenStatistics:
        """What `forward` gives, from its hidden states [N, hidden]."""
        head = self.model.get_output_embeddings()
        bias = None if head.bias is None else head.bias.to(self.compute_dtype)
        return chunked_log_probs(
            hidden.to(self.compute_dtype),
            head.weight.to(self.compute_dtype),
            rows.targets,
            temperature=temperature,
            bias=bias,
            probability_squares=probability_squares,
        )


class PackedActorCritic(nn.Module):
    """A packed causal language model with a value head on its hidden states: Linear(hidden, 1) in float32, zero at first."""

    def __init__(self, policy: PackedCausalLM) -> None:
        super().__init__()
        self.policy = policy
        embeddings = policy.model.get_input_embeddings().weight
        hidden_size = policy.model.config.get_text_config().hidden_size
        self.score = nn.Linear(hidden_size, 1, bias=False, dtype=torch.float32, device=embeddings.device)
        nn.init.zeros_(self.score.weight)

    def forward(
        self, rows: PackedRows, temperature: float, *, probability_squares: bool = False
    ) -> tuple[TokenStatistics, Tensor]:
        """The policy's statistics and the values, [N] float32 each, from one pass through the trunk."""
        hidden = self.policy.hidden_states(rows)
        statistics = self.policy.statistics(hidden, rows, temperature, probability_squares=probability_squares)
        return statistics, self.values(hidden)

    def values(self, hidden: Tensor) -> Tensor:
        """Values [N] float32 of hidden states [N, hidden]."""
        values: Tensor = self.score(hidden.float()).squeeze(-1)
        return values


class PackedValueModel(nn.Module):
    """A backbone with one number for each position."""

    def __init__(self, model: Any, compute_dtype: torch.dtype) -> None:
        """Raises `ModelError` for an architecture that gives other hidden states when run padding-free."""
        super().__init__()
        backbone = model.model
        embeddings = backbone.get_input_embeddings().weight
        rows = probe_rows(embeddings.shape[0], embeddings.device)
        expected = plain_hidden_states(backbone, rows)
        self.model = model
        self.compute_dtype = compute_dtype
        use_packed_attention(model)
        check_packed(
            type(backbone).__name__,
            expected,
            lambda: packed_forward(backbone, rows.token_ids, rows.layout),
            embeddings.dtype,
        )

    def forward(self, rows: PackedRows) -> Tensor:
        """Values [N] float32 at `rows.predict_at`."""
        device_type = rows.token_ids.device.type
        mixed = self.compute_dtype != torch.float32
        with torch.autocast(device_type, dtype=self.compute_dtype if mixed else torch.bfloat16, enabled=mixed):
            hidden = packed_forward(self.model.model, rows.token_ids, rows.layout)
        # The head is tiny and its output is regressed on: always in float32.
        values: Tensor = self.model.score(hidden[rows.predict_at].float()).squeeze(-1)
        return values
