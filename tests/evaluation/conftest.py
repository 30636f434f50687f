"""Completions files made to measure."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import pytest

from rlkit.generation.completions_file import Completion, CompletionRow, append_rows
from rlkit.rewards.adapt import adapt_function
from rlkit.rewards.resolve import ResolvedFunction
from rlkit.rewards.scorer import Scorer
from rlkit.types import Prompt, Reward, Sample

WriteCompletions = Callable[..., str]


class Exact:
    """1 for the reference, 0 for anything else, an error for "boom"."""

    def __call__(self, samples: Sequence[Sample]) -> list[Reward]:
        return [
            Reward(0.0, error="exploded") if s.response == "boom" else Reward(float(s.response == s.prompt.reference))
            for s in samples
        ]

    def extract_answer(self, response: str) -> str | None:
        return response or None


@pytest.fixture
def scorer() -> Scorer:
    function = Exact()
    return Scorer(
        (ResolvedFunction("exact", "exact", function, adapt_function(function, name="exact")),), (1.0,), 30, "zero"
    )


@pytest.fixture
def write_completions(tmp_path: Path) -> WriteCompletions:
    """Write `{row_id: answers}` under a name; every reference is "1"; even rows are of source "even", odd ones of "odd"."""

    def write(name: str, answers: Mapping[int, Sequence[str]], *, question: str = "q", model: str = "m") -> str:
        path = tmp_path / name
        append_rows(
            path,
            [
                CompletionRow(
                    Prompt(row_id, text=f"{question}{row_id}", reference="1", data_source=("even", "odd")[row_id % 2]),
                    tuple(Completion(text, "length" if text == "cut" else "stop", 3) for text in texts),
                    model,
                )
                for row_id, texts in answers.items()
            ],
        )
        return str(path)

    return write
