"""Which validation of a run was the best, and how sure that is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

SCORE_METRICS = frozenset(f"validation/{name}" for name in ("score", "score_low", "score_high", "prompts"))
"""What a validation must have measured to be compared with others."""
Verdict = Literal["better", "worse", "not distinguishable"]


@dataclass(frozen=True)
class ValidationScore:
    """The score after `step` steps with its 95 % interval over `prompts` prompts."""

    step: int
    score: float
    low: float
    high: float
    prompts: int

    def against(self, other: ValidationScore) -> Verdict:
        """How this score stands to `other`; distinguishable only when the intervals do not touch.

        That is stricter than a test of the difference, as it must be for the best one of many.
        """
        # The interval of a single prompt knows nothing of the spread over prompts.
        if min(self.prompts, other.prompts) > 1:
            if self.low > other.high:
                return "better"
            if self.high < other.low:
                return "worse"
        return "not distinguishable"

    def __str__(self) -> str:
        return f"{self.score:.3f} ({self.low:.3f} to {self.high:.3f})"


@dataclass
class ValidationRecord:
    """The validations of a run that matter later; part of its state.

    subject   what was validated and how, as a fingerprint: scores of different subjects are not compared
    start     the starting model
    best      the highest score of a trained model, the earliest of equal ones
    last      the newest one; previous: the one before it
    """

    subject: str = ""
    start: ValidationScore | None = None
    best: ValidationScore | None = None
    previous: ValidationScore | None = None
    last: ValidationScore | None = None

    def note(self, step: int, metrics: Mapping[str, float]) -> bool:
        """Take in the validation after `step` steps; returns whether that model is the best so far.

        The starting model (step 0) is what the others are measured against, never the best itself.
        """
        score = ValidationScore(
            step,
            metrics["validation/score"],
            metrics["validation/score_low"],
            metrics["validation/score_high"],
            round(metrics["validation/prompts"]),
        )
        self.previous, self.last = self.last, score
        if step == 0:
            self.start, self.previous = score, None
            return False
        if self.best is None or score.score > self.best.score:
            self.best = score
            return True
        return False

    @property
    def best_step(self) -> int | None:
        return None if self.best is None else self.best.step

    def covers(self, step: int) -> bool:
        """Whether the newest validation is that of `step`."""
        return self.last is not None and self.last.step == step

    def forget(self) -> None:
        """Begin anew."""
        self.start = self.best = self.previous = self.last = None

    def drop_best(self, step: int) -> None:
        """The best one is lost; that of `step`, whose model is at hand, takes its place if it is the newest."""
        self.best = self.last if self.covers(step) else None

    def as_json(self) -> dict[str, Any]:
        return asdict(self)

    def restore(self, content: Mapping[str, Any]) -> None:
        """Undo `as_json`."""
        self.subject = content["subject"]
        for name in ("start", "best", "previous", "last"):
            score = content[name]
            setattr(self, name, None if score is None else ValidationScore(**score))

    def describe(self) -> dict[str, Any]:
        """The best score, and how the others stand to it, as plain JSON values; empty without a best one."""
        if self.best is None:
            return {}
        others = {"start": self.start, "previous": self.previous, "last": self.last}
        return {
            "best": asdict(self.best),
            "others": {
                name: {**asdict(score), "against_best": score.against(self.best)}
                for name, score in others.items()
                if score is not None and score.step != self.best.step
            },
        }

    def sentence(self) -> str:
        """`best validation 0.810 (0.770 to 0.850) at step 60; the last, at step 80, has 0.790 (...): not distinguishable; ...`"""
        if self.best is None:
            return ""
        at_the_end = self.covers(self.best.step)
        parts = [f"best validation {self.best} at step {self.best.step}" + (", the last" if at_the_end else "")]
        if self.last is not None and not at_the_end:
            parts.append(f"the last, at step {self.last.step}, has {self.last}: {self.last.against(self.best)}")
        if self.start is not None:
            parts.append(f"the starting model has {self.start}: {self.start.against(self.best)}")
        return "; ".join(parts)
