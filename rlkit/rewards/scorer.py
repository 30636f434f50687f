"""Judging answers with the reward functions of a run: deadline, checks, error policy, weighted sum."""

from __future__ import annotations

import logging
import math
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from rlkit.errors import ConfigError, RewardError
from rlkit.rewards.deadline import call_with_deadline
from rlkit.rewards.resolve import ResolvedFunction, resolve_functions
from rlkit.rewards.verdict import Failure, NotApplicable, read_verdict
from rlkit.types.reward import Reward, Sample

if TYPE_CHECKING:
    from rlkit.config.reward_sections import RewardSection

LOGGER = logging.getLogger("rlkit")

MAX_ABANDONED = 8
"""Threads of hanging calls that may be alive at once: a function that always hangs must not fill the machine with them."""

ENVIRONMENT_PART = "environment"
"""Name of the part of a score that an environment gave, over all turns of the conversation."""

Verdict = Reward | Failure | NotApplicable


@dataclass
class Scorer:
    """Several reward functions as one. The score is the weighted sum of their scores.

    Parts are named `<function>` (its own score, before the weight) and `<function>/<part>`. What an environment gave
    in a conversation is added with weight 1 as the part `environment`; then there may be no function at all.
    """

    functions: tuple[ResolvedFunction, ...]
    weights: tuple[float, ...]
    timeout_s: float
    on_error: Literal["stop", "zero"]
    _abandoned: list[threading.Thread] = field(default_factory=list)

    def score(self, samples: Sequence[Sample]) -> list[Reward]:
        """One finite verdict for each sample, in order.

        A verdict that failed (exception, timeout, wrong count, not a finite number) raises `RewardError` under
        `on_error = stop`; under `zero` its score is 0 and `Reward.error` says why.
        """
        if not samples:
            return []
        columns = [self._judge(function, samples) for function in self.functions]
        return [self._combine([column[row] for column in columns], sample) for row, sample in enumerate(samples)]

    def extract_answers(self, samples: Sequence[Sample]) -> list[str | None] | None:
        """What each response gives as its final answer, by the first function that can tell; None when none can."""
        for function in self.functions:
            extract = getattr(function.target, "extract_answer", None)
            if callable(extract):
                return [extract(sample.response) for sample in samples]
        return None

    def close(self) -> None:
        """Let every function that has a `close` method release what it holds."""
        for function in self.functions:
            close = getattr(function.target, "close", None)
            if callable(close):
                close()

    def __enter__(self) -> Scorer:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def _judge(self, function: ResolvedFunction, samples: Sequence[Sample]) -> list[Verdict]:
        self._check_abandoned(function)
        try:
            raw, late = call_with_deadline(function.style, samples, timeout_s=self.timeout_s, name=function.label)
        except ConfigError as error:
            raise ConfigError(f"reward function {function.name!r}: {error}") from error
        if late is not None:
            self._abandoned.append(late)
        verdicts = [read_verdict(verdict) for verdict in raw]
        failed = [(row, verdict) for row, verdict in enumerate(verdicts) if isinstance(verdict, Failure)]
        if failed:
            self._report(function, samples, failed)
        return verdicts

    def _report(
        self, function: ResolvedFunction, samples: Sequence[Sample], failed: Sequence[tuple[int, Failure]]
    ) -> None:
        row, first = failed[0]
        place = f"row {samples[row].prompt.row_id} ({samples[row].prompt.data_source})"
        message = (
            f"reward function {function.name!r} failed on {len(failed)} of {len(samples)} answers, first on {place}"
        )
        if self.on_error == "stop":
            raise RewardError(
                f"{message}: {first.reason}; mend it, or set reward.on_error = zero to score such answers 0"
            ) from first.cause
        LOGGER.warning("%s: %s; scored 0", message, first.reason)

    def _check_abandoned(self, function: ResolvedFunction) -> None:
        self._abandoned = [thread for thread in self._abandoned if thread.is_alive()]
        if len(self._abandoned) >= MAX_ABANDONED:
            raise RewardError(
                f"{len(self._abandoned)} calls of reward functions never came back, the next would be {function.name!r}; "
                "mend the function that hangs, or raise reward.timeout_s"
            )

    def _combine(self, verdicts: Sequence[Verdict], sample: Sample) -> Reward:
        total = 0.0
        parts: dict[str, float] = {}
        errors: list[str] = []
        for function, weight, verdict in zip(self.functions, self.weights, verdicts, strict=True):
            if isinstance(verdict, Failure):
                errors.append(f"{function.label}: {verdict.reason}")
            elif isinstance(verdict, Reward):
                total += weight * verdict.score
                parts[function.label] = verdict.score
                parts |= {f"{function.label}/{name}": value for name, value in verdict.parts.items()}
        if errors:
            return Reward(0.0, parts, "; ".join(errors))
        turn_scores = () if sample.conversation is None else sample.conversation.turn_rewards
        if turn_scores:
            parts[ENVIRONMENT_PART] = sum(turn_scores)
            total += parts[ENVIRONMENT_PART]
        if not math.isfinite(total):
            raise RewardError(f"the weighted sum of {parts} is {total}; choose smaller reward.weights")
        return Reward(total, parts, turn_scores=turn_scores)


def build_scorer(section: RewardSection, *, has_environment: bool = False) -> Scorer:
    """The scorer that a `[reward]` section describes. Raises `ConfigError`, `PluginError` or `RewardError` before anything is scored.

    has_environment: the answers are conversations with one, whose rewards may be all that there is.
    """
    options: dict[str, dict[str, Any]] = section.options
    nothing_named = has_environment and not section.functions
    functions = () if nothing_named else resolve_functions(section.functions, options)
    if has_environment and any(function.label == ENVIRONMENT_PART for function in functions):
        raise ConfigError(
            f"a reward function is called {ENVIRONMENT_PART!r}, as is the part of the score that the environment gives; "
            "rename the function"
        )
    weights = section.weights or (1.0,) * len(functions)
    return Scorer(functions, weights, section.timeout_s, section.on_error)
