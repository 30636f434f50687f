"""Where the tensors of a Hugging Face checkpoint lie in megatron-core's parameters.

megatron-core keeps some of them together, and every process has its slice of each:

    linear_qkv   for each key-value head: its query heads, the key head, the value head     (rows)
    linear_fc1   gate, then up                                                            (rows)

A `Place` is one Hugging Face tensor as a view of one parameter. Reading and writing both go through that view, element
by element, so no conversion can lose a bit, nor do anything in one direction that the other does not undo. Moments of an
optimizer have the shapes of their parameters, so the same views convert them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from torch import Tensor

View: TypeAlias = "Callable[[Tensor], Tensor]"
"""This process's parameter -> the elements of one Hugging Face tensor in it, in that tensor's order; a view, any shape."""


@dataclass(frozen=True)
class Place:
    """name of the Hugging Face tensor; cut_dim: the dimension of it that tensor parallelism cuts, None: each process has
    all of it; is_vocabulary: its rows are tokens, of which the last process may have fewer."""

    name: str
    cut_dim: int | None
    view: View
    is_vocabulary: bool = False

    def read(self, parameter: Tensor) -> Tensor:
        """This process's slice of the Hugging Face tensor: a copy, as it is shaped there."""
        view = self.view(parameter.detach())
        return view.clone().reshape(self.shape_in(parameter))

    def write(self, parameter: Tensor, piece: Tensor) -> None:
        """Overwrite the elements by `piece`, this process's slice of the Hugging Face tensor."""
        view = self.view(parameter.detach())
        if piece.shape != self.shape_in(parameter):
            raise ValueError(f"'{self.name}' has shape {list(piece.shape)}, expected {list(self.shape_in(parameter))}")
        view.copy_(piece.reshape(view.shape))

    def shape_in(self, parameter: Tensor) -> tuple[int, ...]:
        """Shape of this process's slice of the Hugging Face tensor: rows, then what is behind them in the parameter."""
        elements = self.view(parameter.detach()).numel()
        behind = tuple(parameter.shape[1:])
        width = 1
        for size in behind:
            width *= size
        return (elements // width, *behind)

    def with_rows(self, count: int) -> Place:
        """Of which only the first `count` rows of the parameter are anything."""
        return replace(self, view=lambda parameter: self.view(parameter)[:count])


def whole(name: str, cut_dim: int | None, *, is_vocabulary: bool = False) -> Place:
    """A tensor that is a parameter of its own."""
    return Place(name, cut_dim, lambda parameter: parameter, is_vocabulary)


def rows_of_halves(names: tuple[str, str], cut_dim: int | None = 0) -> tuple[Place, Place]:
    """Two tensors of the same shape, the second's rows after the first's."""

    def half(number: int) -> View:
        return lambda parameter: parameter.view(2, -1, *parameter.shape[1:])[number]

    return Place(names[0], cut_dim, half(0)), Place(names[1], cut_dim, half(1))


def rows_of_heads(names: tuple[str, str, str], *, queries_per_group: int, head_dim: int) -> tuple[Place, Place, Place]:
    """Queries, keys and values: for each key-value head its query heads, then itself, then its value head."""
    q, k, v = names

    def groups(parameter: Tensor) -> Tensor:
        return parameter.view(-1, queries_per_group + 2, head_dim, *parameter.shape[1:])

    return (
        Place(q, 0, lambda parameter: groups(parameter)[:, :queries_per_group]),
        Place(k, 0, lambda parameter: groups(parameter)[:, queries_per_group]),
        Place(v, 0, lambda parameter: groups(parameter)[:, queries_per_group + 1]),
    )
