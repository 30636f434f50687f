"""Prompts longer than a sliding window: what they attend to, and what that takes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
import torch
from rlkit_hf.attention import _prefill
from rlkit_hf.row_cache import PrefillPart
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

HEADS, KEY_HEADS, SIZE = 4, 2, 8


def states(length: int, prompts: int = 1) -> tuple[Tensor, Tensor, Tensor]:
    """Queries, keys and values of prompts in one line, with three tokens of others before them."""
    generator = torch.Generator().manual_seed(length)
    return tuple(  # type: ignore[return-value]
        torch.randn(1, heads, 3 + prompts * length, SIZE, generator=generator)
        for heads in (HEADS, KEY_HEADS, KEY_HEADS)
    )


def attend(length: int, window: int, prompts: int, line: Sequence[Tensor]) -> Tensor:
    block = PrefillPart(3, length, (None,) * prompts)  # type: ignore[arg-type]
    return _prefill(block, *line, SIZE**-0.5, window)


def token_by_token(length: int, window: int, prompts: int, line: Sequence[Tensor]) -> Tensor:
    rows = []
    for place in range(prompts * length):
        prompt, position = divmod(place, length)
        start = 3 + prompt * length
        seen = slice(start + max(0, position + 1 - window), start + position + 1)
        query, key, value = line[0][0, :, 3 + place], line[1][0, :, seen], line[2][0, :, seen]
        key, value = key.repeat_interleave(HEADS // KEY_HEADS, 0), value.repeat_interleave(HEADS // KEY_HEADS, 0)
        weights = torch.softmax((key @ query[:, :, None])[..., 0] * SIZE**-0.5, dim=-1)
        rows.append((weights[:, None] @ value)[:, 0])
    return torch.stack(rows)


@pytest.mark.parametrize(
    ("length", "window"), [(2, 1), (9, 4), (256, 255), (257, 100), (257, 256), (513, 3), (600, 300), (600, 599)]
)
@pytest.mark.parametrize("prompts", [1, 2])
def test_a_token_sees_itself_and_those_in_the_window_before_it(length: int, window: int, prompts: int) -> None:
    line = states(length, prompts)
    expected = token_by_token(length, window, prompts, line)
    assert torch.allclose(attend(length, window, prompts, line), expected, atol=1e-5)


class Largest(TorchDispatchMode):
    """Remembers the elements of the largest tensor that came of any operation."""

    elements = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        results = func(*args, **(kwargs or {}))
        for result in results if isinstance(results, tuple) else [results]:
            if isinstance(result, Tensor):
                self.elements = max(self.elements, result.numel())
        return results


def test_memory_grows_with_the_prompt_and_not_with_its_square() -> None:
    length, window = 4096, 64
    line = states(length)
    with Largest() as largest:
        attend(length, window, 1, line)
    assert largest.elements <= line[0].numel() * 2
