"""Judging answers with the reward functions of a run: who judges where, memory, error policy, weighted sum."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

from rlkit.errors import ConfigError, RewardError
from rlkit.rewards.asynchronous import AsyncCalls
from rlkit.rewards.content import answer_digests
from rlkit.rewards.deadline import LocalCalls
from rlkit.rewards.jobs import Job, Patience
from rlkit.rewards.judging import Column, ErrorPolicy, Judging
from rlkit.rewards.memory import Key, VerdictMemory
from rlkit.rewards.resolve import ResolvedFunction, resolve_functions
from rlkit.rewards.verdict import Failure, Verdict
from rlkit.rewards.workers.messages import FunctionSource
from rlkit.rewards.workers.pool import WorkerPool
from rlkit.rewards.workers.processes import HERE
from rlkit.types.reward import Reward, Sample

if TYPE_CHECKING:
    from rlkit.config.reward_sections import RewardSection

ENVIRONMENT_PART = "environment"
"""Name of the part of a score that an environment gave, over all turns of the conversation."""


@dataclass(frozen=True)
class Runtime:
    """How functions are called; see `RewardSection` for the numbers. workers = 0: in this process."""

    workers: int = 0
    memory_bytes: int = 0
    concurrency: int = 32
    remembered: int = 0
    seed: int = 0


@dataclass
class Scorer:
    """Several reward functions as one. The score is the weighted sum of their scores.

    Parts are named `<function>` (its own score, before the weight) and `<function>/<part>`. What an environment gave
    in a conversation is added with weight 1 as the part `environment`; then there may be no function at all.
    """

    functions: tuple[ResolvedFunction, ...]
    weights: tuple[float, ...]
    patience: Patience
    policy: ErrorPolicy = field(default_factory=ErrorPolicy)
    runtime: Runtime = field(default_factory=Runtime)

    def __post_init__(self) -> None:
        styles = {number: function.style for number, function in enumerate(self.functions)}
        apart = {number for number, style in styles.items() if style.manner.runs_in == "process"}
        self._memory = VerdictMemory(self.runtime.remembered)
        self._local = LocalCalls(self.patience)
        self._async = AsyncCalls(styles, concurrency=self.runtime.concurrency, patience=self.patience)
        self._pool: WorkerPool | None = None
        self._told = (0, 0)
        if apart and self.runtime.workers and HERE:
            self._pool = WorkerPool(
                [FunctionSource(function.name, function.options) for function in self.functions],
                workers=self.runtime.workers,
                patience=self.patience,
                memory_bytes=self.runtime.memory_bytes,
                seed=self.runtime.seed,
            )
            self._pool.warm_up(min(apart))

    def score(self, samples: Sequence[Sample]) -> list[Reward]:
        """As `begin`, and waits for the verdicts."""
        return self.begin(samples).result()

    def begin(self, samples: Sequence[Sample]) -> Judging:
        """Have the samples judged while the caller does something else; `Judging.result` has one reward each, in order.

        Every score is finite. What cannot be judged (exception, timeout, wrong count, not a finite number, a worker that
        ended) raises `RewardError` there, or has a score of 0 and says why in `Reward.error`, as the error policy says.
        """
        judging = Judging(
            samples,
            functions=len(self.functions),
            policy=self.policy,
            finish=self._combine_all,
            while_waiting=self._async.check,
            counters=self._new_counts,
        )
        digests = self._digests(samples)
        for number, function in enumerate(self.functions):
            keys = self._keys(number, digests)
            column = Column(judging, function.name, keys, self._memory)
            judging.columns.append(column)
            self._hand_out(number, column, samples, keys, judging)
        return judging

    def extract_answers(self, samples: Sequence[Sample]) -> list[str | None] | None:
        """What each response gives as its final answer, by the first function that can tell; None when none can."""
        for function in self.functions:
            extract = getattr(function.target, "extract_answer", None)
            if callable(extract):
                return [extract(sample.response) for sample in samples]
        return None

    def close(self) -> None:
        """End all workers, and let every function that has `close` or `aclose` release what it holds."""
        if self._pool is not None:
            self._pool.close()
        closers = [getattr(function.target, "aclose", None) for function in self.functions]
        self._async.close([closer for closer in closers if callable(closer)])
        for function in self.functions:
            close = getattr(function.target, "close", None)
            if callable(close):
                close()

    def __enter__(self) -> Scorer:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def _hand_out(
        self, number: int, column: Column, samples: Sequence[Sample], keys: Sequence[Key | None], judging: Judging
    ) -> None:
        function = self.functions[number]
        jobs = self._jobs(number, column, samples, keys, judging)
        if not jobs:
            return
        match function.style.manner.runs_in:
            case "async":
                self._async.submit(jobs)
            case "process" if self._pool is not None:
                self._pool.submit(jobs)
            case runs_in:
                judging.local.append(partial(self._judge_here, function, jobs, has_deadline=runs_in == "process"))

    def _jobs(
        self, number: int, column: Column, samples: Sequence[Sample], keys: Sequence[Key | None], judging: Judging
    ) -> list[Job]:
        """The calls that are needed: one for the batch, or one for each answer that is new."""
        if not samples:
            return []
        if not self.functions[number].style.manner.judges_apart:
            return [Job(number, tuple(samples), tuple(range(len(samples))), column)]
        positions: dict[object, list[int]] = {}
        for position, key in enumerate(keys):
            verdict = None if key is None else self._memory.recall(key)
            if verdict is not None:
                judging.remembered += 1
                column.put(position, verdict)
            else:
                positions.setdefault(position if key is None else key, []).append(position)
        judging.remembered += sum(len(same) - 1 for same in positions.values())
        return [Job(number, (samples[same[0]],), tuple(same), column) for same in positions.values()]

    def _judge_here(self, function: ResolvedFunction, jobs: Sequence[Job], *, has_deadline: bool) -> None:
        try:
            self._local.judge(function.style, jobs, name=function.label, has_deadline=has_deadline)
        except ConfigError as error:
            raise ConfigError(f"reward function {function.name!r}: {error}") from error

    def _digests(self, samples: Sequence[Sample]) -> list[bytes | None]:
        manners = [function.style.manner for function in self.functions]
        if self.runtime.remembered and any(manner.judges_apart and manner.remembers for manner in manners):
            return answer_digests(samples)
        return [None] * len(samples)

    def _keys(self, number: int, digests: Sequence[bytes | None]) -> list[Key | None]:
        manner = self.functions[number].style.manner
        if not (manner.judges_apart and manner.remembers):
            return [None] * len(digests)
        return [None if digest is None else (number, digest) for digest in digests]

    def _new_counts(self) -> tuple[int, int]:
        """Restarts of workers and retries of calls since this was last asked."""
        restarts = self._pool.restarts if self._pool is not None else 0
        retries = self._local.retries + self._async.retries + (self._pool.retries if self._pool is not None else 0)
        before, self._told = self._told, (restarts, retries)
        return restarts - before[0], retries - before[1]

    def _combine_all(self, judging: Judging) -> list[Reward]:
        rows = zip(*(column.verdicts for column in judging.columns), strict=True) if judging.columns else None
        verdicts = [()] * len(judging.samples) if rows is None else list(rows)
        return [self._combine(row, sample) for row, sample in zip(verdicts, judging.samples, strict=True)]

    def _combine(self, verdicts: Sequence[Verdict | None], sample: Sample) -> Reward:
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


def build_scorer(section: RewardSection, *, seed: int = 0, has_environment: bool = False) -> Scorer:
    """The scorer that a `[reward]` section describes. Raises `ConfigError`, `PluginError` or `RewardError` before anything is scored.

    seed: of what functions draw at random. has_environment: the answers are conversations with one, whose rewards may be
    all that there is.
    """
    options: dict[str, dict[str, Any]] = section.options
    nothing_named = has_environment and not section.functions
    functions = () if nothing_named else resolve_functions(section.functions, options)
    if has_environment and any(function.label == ENVIRONMENT_PART for function in functions):
        raise ConfigError(
            f"a reward function is called {ENVIRONMENT_PART!r}, as is the part of the score that the environment gives; "
            "rename the function"
        )
    for function in functions:
        _check_time_limit(function, section.timeout_s)
    return Scorer(
        functions,
        section.weights or (1.0,) * len(functions),
        Patience(section.timeout_s, section.retries, section.retry_wait_s),
        ErrorPolicy(section.on_error, section.max_error_fraction),
        Runtime(
            workers=section.workers,
            memory_bytes=section.memory_mib << 20,
            concurrency=section.concurrency,
            remembered=section.remembered_verdicts,
            seed=seed,
        ),
    )


def _check_time_limit(function: ResolvedFunction, timeout_s: float) -> None:
    """A function that keeps limits of its own must be able to say that they were reached."""
    own = getattr(function.target, "answer_timeout_s", 0.0)
    if own >= timeout_s:
        raise ConfigError(
            f"reward.timeout_s = {timeout_s:g} is no longer than the {own:g} s that {function.name!r} may take by its own "
            f"limits; raise it, or lower those in reward.options.{function.label}"
        )
