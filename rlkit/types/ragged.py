"""Rows of different lengths in one flat tensor, so that nothing is ever stored for padding."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch
    from torch import Tensor


@dataclass(frozen=True, eq=False)
class Ragged:
    """`B` rows of tokens, laid end to end.

    values  [N, ...]  the rows' tokens, row after row
    lengths [B] int64 tokens of each row (zero allowed); sums to N
    """

    values: Tensor
    lengths: Tensor

    def __post_init__(self) -> None:
        if self.lengths.ndim != 1:
            raise ValueError(f"lengths must be one-dimensional, got shape {tuple(self.lengths.shape)}")
        total = int(self.lengths.sum())
        if total != self.values.shape[0]:
            raise ValueError(f"row lengths sum to {total}, but there are {self.values.shape[0]} values")

    @classmethod
    def from_rows(cls, rows: Sequence[Sequence[float] | Tensor], *, dtype: torch.dtype | None = None) -> Ragged:
        """Lay `rows` (lists or one-dimensional tensors) end to end."""
        import torch

        tensors = [row if isinstance(row, torch.Tensor) else torch.tensor(row, dtype=dtype) for row in rows]
        lengths = torch.tensor([len(row) for row in tensors], dtype=torch.int64)
        if not tensors:
            return cls(torch.zeros(0, dtype=dtype or torch.int64), lengths)
        # An empty list becomes a float tensor unless told otherwise: let the non-empty rows decide.
        decided = dtype or next((row.dtype for row in tensors if len(row)), torch.int64)
        return cls(torch.cat([row.to(decided) for row in tensors]), lengths)

    @classmethod
    def from_padded(cls, padded: Tensor, lengths: Tensor) -> Ragged:
        """Keep the first `lengths[b]` entries of each row of `padded` [B, R, ...]."""
        import torch

        columns = torch.arange(padded.shape[1], device=padded.device)
        return cls(padded[columns < lengths.to(padded.device)[:, None]], lengths)

    def __len__(self) -> int:
        return self.lengths.shape[0]

    @property
    def num_tokens(self) -> int:
        return self.values.shape[0]

    @property
    def offsets(self) -> Tensor:
        """[B + 1] int64: row b is `values[offsets[b]:offsets[b + 1]]`."""
        import torch

        zero = torch.zeros(1, dtype=torch.int64, device=self.lengths.device)
        return torch.cat([zero, self.lengths.cumsum(0)])

    def row_index(self) -> Tensor:
        """[N] int64: the row that each token belongs to."""
        import torch

        rows = torch.arange(len(self), device=self.lengths.device)
        return torch.repeat_interleave(rows, self.lengths)

    def padded(self, fill: float | bool, *, width: int | None = None) -> Tensor:
        """[B, R, ...] with `fill` right of each row; R is the longest row or `width`."""
        import torch

        longest = int(self.lengths.max()) if len(self) else 0
        if width is not None and width < longest:
            raise ValueError(f"width {width} is shorter than the longest row ({longest} tokens)")
        shape = (len(self), longest if width is None else width, *self.values.shape[1:])
        out = torch.full(shape, fill, dtype=self.values.dtype, device=self.values.device)
        columns = torch.arange(shape[1], device=self.values.device)
        out[columns < self.lengths.to(self.values.device)[:, None]] = self.values
        return out

    def rows(self) -> Iterator[Tensor]:
        """The rows, one by one, as views of `values`."""
        yield from self.values.split(self.lengths.tolist())  # type: ignore[no-untyped-call]

    def select(self, rows: Sequence[int] | Tensor) -> Ragged:
        """The given rows, in the given order (a row may appear more than once)."""
        import torch

        chosen = torch.as_tensor(rows, dtype=torch.int64)
        lengths = self.lengths[chosen.to(self.lengths.device)]
        # Token t of output row i comes from offsets[chosen[i]] + t.
        starts = self.offsets[:-1][chosen.to(self.lengths.device)]
        within = torch.arange(int(lengths.sum()), device=self.lengths.device)
        out_starts = torch.cat([torch.zeros(1, dtype=torch.int64, device=lengths.device), lengths.cumsum(0)[:-1]])
        index = within + torch.repeat_interleave(starts - out_starts, lengths)
        return Ragged(self.values[index.to(self.values.device)], lengths)

    def with_values(self, values: Tensor) -> Ragged:
        """The same row lengths with other values ([N, ...])."""
        return Ragged(values, self.lengths)

    def to(self, device: torch.device | str) -> Ragged:
        """Values on `device`; lengths stay where they are (they are control data)."""
        return Ragged(self.values.to(device), self.lengths)

    @staticmethod
    def concatenate(parts: Iterable[Ragged]) -> Ragged:
        """The rows of all `parts`, one after another (at least one part)."""
        import torch

        parts = list(parts)
        return Ragged(torch.cat([p.values for p in parts]), torch.cat([p.lengths for p in parts]))
