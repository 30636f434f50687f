"""Completions files made to measure."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import pytest

from rlkit.generation.completions_file import Completion, CompletionRow, append_rows
from rlkit.types import Prompt, Reward, Sample

WriteCompletions = Callable[..., str]


class Exact:
    """1 for the reference, 0 for anything else, an error for "boom"; the answer is the whole response, none when it is empty."""

    def __init__(self) -> None:
        self.judged: list[str] = []

    def score(self, samples: Sequence[Sample]) -> list[Reward]:
        self.judged += [sample.response for sample in samples]
        return [
            Reward(0.0, error="exploded")
            if s.response == "boom"
            else Reward(float(s.response == s.prompt.reference), {"characters": float(len(s.response))})
            for s in samples
        ]

    def extract_answers(self, samples: Sequence[Sample]) -> list[str | None]:
        return [sample.response or None for sample in samples]


@pytest.fixture
def scorer() -> Exact:
    return Exact()


@pytest.fixture
def write_completions(tmp_path: Path) -> WriteCompletions:
    """Write `{row_id: answers}` under a name; every reference is "1"; even rows are of source "even", odd ones of "odd"; tens are families."""

    def write(name: str, answers: Mapping[int, Sequence[str]], *, question: str = "q", model: str = "m") -> str:
        path = tmp_path / name
        append_rows(
            path,
            [
                CompletionRow(
                    Prompt(
                        row_id,
                        text=f"{question}{row_id}",
                        reference="1",
                        data_source=("even", "odd")[row_id % 2],
                        extra={"family": row_id // 10},
                    ),
                    tuple(Completion(text, "length" if text == "cut" else "stop", 3) for text in texts),
                    model,
                )
                for row_id, texts in answers.items()
            ],
        )
        return str(path)

    return write
