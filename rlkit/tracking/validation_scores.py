"""The scores of single validation prompts, kept beside the answers, so that validations can be compared prompt by prompt."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rlkit.tracking.run_folder import write_atomically
from rlkit.types.prompts import Prompt


@dataclass(frozen=True)
class PromptScores:
    """Row-aligned: which prompts were asked, as fingerprints, and the scores of the answers to each.

    data_sources  where each prompt is from
    """

    row_ids: tuple[int, ...]
    prompts: tuple[str, ...]
    data_sources: tuple[str, ...]
    scores: tuple[tuple[float, ...], ...]

    def __len__(self) -> int:
        return len(self.prompts)

    def matched(self, other: PromptScores) -> list[tuple[tuple[float, ...], tuple[float, ...]]]:
        """The scores of both for the prompts that both have, in this one's order."""
        theirs = dict(zip(other._keys, other.scores, strict=True))
        own = zip(self._keys, self.scores, strict=True)
        return [(scores, theirs[key]) for key, scores in own if key in theirs]

    @property
    def _keys(self) -> list[tuple[int, str]]:
        return list(zip(self.row_ids, self.prompts, strict=True))


def prompt_fingerprint(prompt: Prompt) -> str:
    """Of what is asked and what the answer is measured by: equal prompts of different files have the same."""
    content = [prompt.question, prompt.reference, prompt.data_source]
    return hashlib.sha256(json.dumps(content, default=str).encode("utf-8", errors="replace")).hexdigest()[:16]


def write_scores(folder: Path, step: int, prompts: Sequence[Prompt], scores: Sequence[Sequence[float]]) -> Path:
    """Write `folder/step_000001.json`; an existing file of the step is replaced."""
    path = folder / _name(step)
    content = {
        "row_id": [prompt.row_id for prompt in prompts],
        "prompt": [prompt_fingerprint(prompt) for prompt in prompts],
        "data_source": [prompt.data_source for prompt in prompts],
        "scores": [list(row) for row in scores],
    }
    folder.mkdir(parents=True, exist_ok=True)
    write_atomically(path, json.dumps(content) + "\n")
    return path


def read_scores(folder: Path, step: int) -> PromptScores | None:
    """What `write_scores` wrote; None where there is no such file, or it cannot be read."""
    try:
        content = json.loads((folder / _name(step)).read_text(encoding="utf-8"))
        return PromptScores(
            tuple(map(int, content["row_id"])),
            tuple(map(str, content["prompt"])),
            tuple(map(str, content["data_source"])),
            tuple(tuple(map(float, row)) for row in content["scores"]),
        )
    except (OSError, ValueError, TypeError, KeyError):
        return None


def _name(step: int) -> str:
    return f"step_{step:06d}.json"
