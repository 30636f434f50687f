"""Which validation of a supervised run had the lowest loss."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class ValidationLoss:
    """Mean cross-entropy (nats a token) on the validation data after `step` steps."""

    step: int
    loss: float

    def __str__(self) -> str:
        return f"{self.loss:.4f}"


@dataclass
class LossRecord:
    """The validation losses of a run that matter later; part of its state.

    subject   what was validated, as a fingerprint: losses on different data are not compared
    best      the lowest loss, the earliest of equal ones
    last      the newest one
    """

    subject: str = ""
    best: ValidationLoss | None = None
    last: ValidationLoss | None = None

    def note(self, step: int, loss: float) -> bool:
        """Take in the validation after `step` steps; returns whether that model is the best so far.

        A loss that is not a finite number is never the best.
        """
        self.last = ValidationLoss(step, loss)
        if math.isfinite(loss) and (self.best is None or loss < self.best.loss):
            self.best = self.last
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
        self.best = self.last = None

    def drop_best(self, step: int) -> None:
        """The best one is lost; that of `step`, whose model is at hand, takes its place if it is the newest."""
        self.best = self.last if self.covers(step) else None

    def as_json(self) -> dict[str, Any]:
        return asdict(self)

    def restore(self, content: Mapping[str, Any]) -> None:
        """Undo `as_json`."""
        self.subject = content["subject"]
        for name in ("best", "last"):
            loss = content[name]
            setattr(self, name, None if loss is None else ValidationLoss(**loss))

    def describe(self) -> dict[str, Any]:
        """The best loss and the last one as plain JSON values; empty without a best one."""
        if self.best is None or self.last is None:
            return {}
        return {"best": asdict(self.best), "others": {} if self.covers(self.best.step) else {"last": asdict(self.last)}}

    def sentence(self) -> str:
        """`best validation loss 1.2034 at step 60; the last, at step 80, has 1.2500`"""
        if self.best is None or self.last is None:
            return ""
        if self.covers(self.best.step):
            return f"best validation loss {self.best} at step {self.best.step}, the last"
        return f"best validation loss {self.best} at step {self.best.step}; the last, at step {self.last.step}, has {self.last}"
