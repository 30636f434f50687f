"""Every answer's verdict, kept in a file: what a result was made of, and what an interrupted evaluation goes on from.

JSON Lines, one line for each answer:

    {"row_id": 0, "data_source": "gsm8k", "sample": 0, "score": 1.0, "parts": {...}, "error": null, "answer": "18", "key": "..."}

`score` is null where the answer could not be judged; `error` then says why. `key` is a digest of the judge and of all that it
sees of the prompt and the answer: a line is only used again for the same ones. Lines are appended durably, batch by batch.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rlkit.errors import DataError
from rlkit.rewards.content import answer_digests
from rlkit.types.reward import Reward, Sample


@dataclass(frozen=True)
class Verdict:
    """A reward, and the answer that was extracted from the response (None: no answer, or the reward extracts none)."""

    reward: Reward
    answer: str | None = None


@dataclass
class VerdictFile:
    """The verdicts of one completions file by one judge. `judge` names everything that verdicts depend on but the answers."""

    path: Path
    judge: str
    _known: dict[tuple[int, int], tuple[str, Verdict]] = field(default_factory=dict)
    _lines: int = 0  # in the file, those that later ones replace included

    @classmethod
    def open(cls, path: Path, judge: str) -> VerdictFile:
        """Read what is there; a line that a killed run left unfinished is cut off. Raises `DataError` for a file of another kind."""
        path.parent.mkdir(parents=True, exist_ok=True)
        _repair(path)
        known = {}
        number = 0
        for number, content in _lines(path):
            try:
                known[int(content["row_id"]), int(content["sample"])] = (content["key"], _verdict(content))
            except (KeyError, TypeError, ValueError) as error:
                raise DataError(
                    f"{path}, line {number} is not a verdict of `rlkit eval`; choose another folder"
                ) from error
        return cls(path, judge, known, number)

    def get(self, samples: Sequence[Sample]) -> list[Verdict] | None:
        """The verdicts on all answers to one prompt; None unless all are there and without an error."""
        found: list[Verdict] = []
        for number, sample in enumerate(samples):
            known = self._known.get((sample.prompt.row_id, number))
            if known is None or known[1].reward.error is not None:
                return None
            key = self._key(sample)
            if not key or known[0] != key:
                return None
            found.append(known[1])
        return found

    def add(self, judged: Sequence[tuple[Sequence[Sample], Sequence[Verdict]]]) -> None:
        """Append the verdicts on all answers to some prompts, and return when they are on disk."""
        lines: list[str] = []
        for samples, verdicts in judged:
            for number, (sample, verdict) in enumerate(zip(samples, verdicts, strict=True)):
                key = self._key(sample)
                self._known[sample.prompt.row_id, number] = (key, verdict)
                lines.append(_line(sample, number, verdict, key))
        self._lines += len(lines)
        with self.path.open("a", encoding="utf-8", errors="replace") as file:
            file.writelines(lines)
            file.flush()
            os.fsync(file.fileno())

    def finish(self, order: Sequence[Sequence[Sample]]) -> None:
        """Leave one line for each answer: without what was judged again or is no longer asked, then in the order given."""
        if self._lines == sum(map(len, order)):
            return
        aside = self.path.with_name(f".{self.path.name}.partial")
        with aside.open("w", encoding="utf-8", errors="replace") as file:
            for samples in order:
                for number, sample in enumerate(samples):
                    key, verdict = self._known[sample.prompt.row_id, number]
                    file.write(_line(sample, number, verdict, key))
            file.flush()
            os.fsync(file.fileno())
        aside.replace(self.path)

    def _key(self, sample: Sample) -> str:
        """Empty where not all that a function sees has a spelling of its own: such a verdict is never used again."""
        (content,) = answer_digests([sample])
        if content is None:
            return ""
        return hashlib.blake2b(self.judge.encode() + b"\0" + content, digest_size=8).hexdigest()


def _line(sample: Sample, number: int, verdict: Verdict, key: str) -> str:
    reward = verdict.reward
    content = {
        "row_id": sample.prompt.row_id,
        "data_source": sample.prompt.data_source,
        "sample": number,
        "score": None if reward.error is not None else reward.score,
        "parts": dict(reward.parts),
        "error": reward.error,
        "answer": verdict.answer,
        "key": key,
    }
    return json.dumps(content, ensure_ascii=False, allow_nan=False) + "\n"


def _verdict(content: Mapping[str, Any]) -> Verdict:
    error = content["error"]
    score = 0.0 if error is not None else float(content["score"])
    return Verdict(Reward(score, dict(content["parts"]), error), content["answer"])


def _lines(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    if not path.exists():
        return
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            try:
                content = json.loads(line)
            except ValueError as error:
                raise DataError(
                    f"{path}, line {number} is not JSON; choose another folder, or remove the file"
                ) from error
            yield number, content


def _repair(path: Path) -> None:
    """Only the last line can be unfinished."""
    if not path.exists():
        return
    with path.open("r+b") as file:
        data = file.read()
        if data and not data.endswith(b"\n"):
            file.truncate(data.rfind(b"\n") + 1)
