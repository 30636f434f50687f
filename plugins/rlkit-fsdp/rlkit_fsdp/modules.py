"""Root modules: what is computed inside one forward pass, so that parameters are only touched there.

FSDP gathers a root's own parameters around its `forward`, so whatever reads one is handed to `forward` as a function.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from rlkit.algos.cross_entropy import summed_cross_entropy
from rlkit.algos.log_probs import TokenStatistics, chunked_log_probs
from rlkit.models.packed import packed_forward, use_packed_attention
from rlkit_fsdp.packed_rows import PackedRows
from rlkit_fsdp.packing_check import check_packed, plain_hidden_states, plain_log_probs, probe_rows

T = TypeVar("T")


class RootModule(nn.Module):
    """What the roots share; `check` has to be called once, when the weights are there."""

    def __init__(self, model: Any, compute_dtype: torch.dtype) -> None:
        super().__init__()
        self.model = model
        self.compute_dtype = compute_dtype

    def forward(self, compute: Callable[[], T]) -> T:
        """`compute()`, in the role's arithmetic: float32 parameters are cast for matrix products only."""
        return compute()

    def check(self, device: torch.device, dtype: torch.dtype) -> None:
        """Raises `ModelError` for an architecture that gives other numbers when run padding-free."""
        raise NotImplementedError

    def _autocast(self, device: torch.device) -> torch.autocast:
        mixed = self.compute_dtype != torch.float32
        return torch.autocast(device.type, dtype=self.compute_dtype if mixed else torch.bfloat16, enabled=mixed)

    def _check(
        self,
        backbone: Any,
        plain: Callable[[PackedRows], Tensor],
        packed: Callable[[PackedRows], Tensor],
        device: torch.device,
        dtype: torch.dtype,
    ) -> None:
        """Compares the two forward passes in arithmetic of type `dtype`, and switches to the packed one for good."""
        compute_dtype, self.compute_dtype = self.compute_dtype, dtype
        rows = probe_rows(backbone.get_input_embeddings().weight.shape[0], device)

        def compute_plainly() -> Tensor:
            with self._autocast(device):
                return plain(rows)

        expected: Tensor = self(compute_plainly)
        use_packed_attention(self.model)
        check_packed(type(backbone).__name__, expected, lambda: packed(rows), dtype)
        self.compute_dtype = compute_dtype


class PackedCausalLM(RootModule):
    """A causal language model that answers with log-probs and entropies, never with logits."""

    @torch.no_grad()
    def check(self, device: torch.device, dtype: torch.dtype) -> None:
        """Raises `ModelError` for an architecture that gives other log-probs when run padding-free."""
        self._check(
            self.model,
            lambda rows: plain_log_probs(self.model, rows),
            lambda rows: self.statistics(rows, 1.0).log_probs,
            device,
            dtype,
        )

    def statistics(self, rows: PackedRows, temperature: float, *, probability_squares: bool = False) -> TokenStatistics:
        """Of `rows.targets` under softmax(logits / temperature), [N] float32."""
        return self.statistics_and_hidden_states(rows, temperature, probability_squares=probability_squares)[0]

    def hidden_states(self, rows: PackedRows) -> Tensor:
        """Last hidden states [N, hidden] at `rows.predict_at`."""
        hidden: Tensor = self(lambda: self._hidden_states(rows))
        return hidden

    def statistics_and_hidden_states(
        self, rows: PackedRows, temperature: float, *, probability_squares: bool = False
    ) -> tuple[TokenStatistics, Tensor]:
        """Both, from one forward pass."""

        def compute() -> tuple[TokenStatistics, Tensor]:
            hidden = self._hidden_states(rows)
            return self._statistics(hidden, rows, temperature, probability_squares=probability_squares), hidden

        both: tuple[TokenStatistics, Tensor] = self(compute)
        return both

    def cross_entropy(self, rows: PackedRows) -> Tensor:
        """Summed over `rows.targets`, in nats, a float64 scalar: what fine-tuning needs, for less than the statistics."""

        def compute() -> Tensor:
            hidden = self._hidden_states(rows)
            weight, bias = self._head()
            return summed_cross_entropy(hidden.to(self.compute_dtype), weight, rows.targets, bias=bias)

        total: Tensor = self(compute)
        return total

    def _head(self) -> tuple[Tensor, Tensor | None]:
        """Weight [V, hidden] and bias [V] of the output head, in the role's type."""
        head = self.model.get_output_embeddings()
        return head.weight.to(self.compute_dtype), None if head.bias is None else head.bias.to(self.compute_dtype)

    def _hidden_states(self, rows: PackedRows) -> Tensor:
        with self._autocast(rows.token_ids.device):
            hidden = packed_forward(self.model.get_decoder(), rows.token_ids, rows.layout)
        return hidden.index_select(0, rows.predict_at)

    def _statistics(
        self, hidden: Tensor, rows: PackedRows, temperature: float, *, probability_squares: bool
    ) -> TokenStatistics:
        weight, bias = self._head()
        return chunked_log_probs(
            hidden.to(self.compute_dtype),
            weight,
            rows.targets,
            temperature=temperature,
            bias=bias,
            probability_squares=probability_squares,
        )


class PackedActorCritic(nn.Module):
    """A packed causal language model with a value head on its hidden states: Linear(hidden, 1) in float32, zero at first."""

    def __init__(self, policy: PackedCausalLM, device: torch.device) -> None:
        super().__init__()
        self.policy = policy
        hidden_size = policy.model.config.get_text_config().hidden_size
        self.score = nn.Linear(hidden_size, 1, bias=False, dtype=torch.float32, device=device)
        nn.init.zeros_(self.score.weight)

    def statistics_and_values(
        self, rows: PackedRows, temperature: float, *, probability_squares: bool = False
    ) -> tuple[TokenStatistics, Tensor]:
        """The policy's statistics and the values, [N] float32 each, from one pass through the trunk."""
        statistics, hidden = self.policy.statistics_and_hidden_states(
            rows, temperature, probability_squares=probability_squares
        )
        return statistics, self.values(hidden)

    def values(self, hidden: Tensor) -> Tensor:
        """Values [N] float32 of hidden states [N, hidden]."""
        values: Tensor = self.score(hidden.float()).squeeze(-1)
        return values


class PackedValueModel(RootModule):
    """A backbone with one number for each position."""

    @torch.no_grad()
    def check(self, device: torch.device, dtype: torch.dtype) -> None:
        """Raises `ModelError` for an architecture that gives other hidden states when run padding-free."""
        backbone = self.model.model
        self._check(
            backbone,
            lambda rows: plain_hidden_states(backbone, rows),
            lambda rows: self(lambda: self._hidden_states(rows)),
            device,
            dtype,
        )

    def values(self, rows: PackedRows) -> Tensor:
        """Values [N] float32 at `rows.predict_at`."""

        def compute() -> Tensor:
            hidden = self._hidden_states(rows).index_select(0, rows.predict_at)
            # The head is tiny and its output is regressed on: always in float32.
            values: Tensor = self.model.score(hidden.float())
            return values

        found: Tensor = self(compute)
        return found.squeeze(-1)  # out here: FSDP's hooks want no view

    def _hidden_states(self, rows: PackedRows) -> Tensor:
        with self._autocast(rows.token_ids.device):
            return packed_forward(self.model.model, rows.token_ids, rows.layout)
