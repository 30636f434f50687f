"""Rollouts with their texts and verdicts, and which groups of them have anything to teach."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from operator import itemgetter
from statistics import fmean
from typing import Protocol

from rlkit.errors import RewardError
from rlkit.rewards.judging import JudgingReport
from rlkit.rewards.scoring import PendingVerdicts
from rlkit.types import Reward, Rollouts


@dataclass(frozen=True, eq=False)
class Judged:
    """Answers, as tokens and as text, and the verdict on each; row-aligned. reports: of the judging."""

    rollouts: Rollouts
    responses: tuple[str, ...]
    rewards: tuple[Reward, ...]
    reports: tuple[JudgingReport, ...] = ()

    def judged(self) -> Judged:
        return self

    def select(self, rows: Sequence[int]) -> Judged:
        """The given rows, in the given order, without reports."""
        return Judged(
            self.rollouts.select(rows),
            tuple(self.responses[row] for row in rows),
            tuple(self.rewards[row] for row in rows),
        )

    @staticmethod
    def join(parts: Sequence[Judged]) -> Judged:
        """The rows of all `parts`; see `Rollouts.join`."""
        return Judged(
            Rollouts.join([part.rollouts for part in parts]),
            tuple(response for part in parts for response in part.responses),
            tuple(reward for part in parts for reward in part.rewards),
            tuple(report for part in parts for report in part.reports),
        )

    def groups(self) -> list[list[int]]:
        """The rows of each prompt, in the order of appearance."""
        found: dict[int, list[int]] = {}
        for row, group in enumerate(self.rollouts.group_ids.tolist()):
            found.setdefault(group, []).append(row)
        return list(found.values())

    def is_informative(self, rows: Sequence[int], parts: Sequence[str] = ()) -> bool:
        """Whether the rewards of a prompt's answers differ: equal ones give every answer the advantage 0.

        Answers without a verdict do not count.

        parts: those that the estimator compares one by one instead of their sum.
        """
        rewards = [self.rewards[row] for row in rows if self.rewards[row].error is None]
        scores = [[reward.parts.get(part, 0.0) for part in parts] if parts else [reward.score] for reward in rewards]
        return any(found != scores[0] for found in scores)


class Answered(Protocol):
    """Answers whose verdicts are there, or on their way."""

    @property
    def rollouts(self) -> Rollouts: ...

    def judged(self) -> Judged:
        """With the verdicts, waited for."""
        ...


@dataclass(frozen=True, eq=False)
class BeingJudged:
    """Answers, as tokens and as text, whose verdicts are on their way."""

    rollouts: Rollouts
    responses: tuple[str, ...]
    verdicts: PendingVerdicts

    def judged(self) -> Judged:
        """With the verdicts, waited for. Raises `RewardError` when too many of them failed, or all."""
        rewards = tuple(self.verdicts.result())
        if rewards and all(reward.error is not None for reward in rewards):
            raise RewardError(
                f"none of {len(rewards)} answers could be judged, so there is nothing to learn from: {rewards[0].error}"
            )
        return Judged(self.rollouts, self.responses, rewards, (self.verdicts.report(),))


@dataclass
class Refill:
    """Dynamic sampling (Yu et al. 2025, DAPO, arXiv:2503.14476, section 3.2): a batch of informative groups.

    Feed it rounds of judged answers until `missing` is 0 or the rounds are used up; `result` fills what is still missing
    with groups that have nothing to teach, so that a step always has the same size.
    """

    wanted: int
    parts: tuple[str, ...] = ()  # see `Judged.is_informative`

    def __post_init__(self) -> None:
        self._rounds: list[Judged] = []
        self._informative: list[tuple[int, list[int]]] = []  # (round, rows of one group)
        self._others: list[tuple[int, list[int]]] = []

    def add(self, judged: Judged) -> None:
        """One round of answers."""
        for rows in judged.groups():
            (self._informative if judged.is_informative(rows, self.parts) else self._others).append((self.rounds, rows))
        self._rounds.append(judged)

    @property
    def rounds(self) -> int:
        return len(self._rounds)

    @property
    def missing(self) -> int:
        return max(0, self.wanted - len(self._informative))

    def result(self) -> Judged:
        """The batch: the earliest groups, informative ones first."""
        chosen = [*self._informative, *self._others][: self.wanted]
        parts = []
        # Groups of one round are taken together: a selection costs the same for one group as for hundreds.
        for number, groups in groupby(chosen, key=itemgetter(0)):
            parts.append(self._rounds[number].select([row for _, rows in groups for row in rows]))
        reports = tuple(report for judged in self._rounds for report in judged.reports)
        return replace(Judged.join(parts), reports=reports)

    def metrics(self) -> dict[str, float]:
        """How much was sampled for it."""
        groups = len(self._informative) + len(self._others)
        return {
            "rollout/rounds": float(self.rounds),
            "rollout/uninformative_fraction": len(self._others) / groups,
            "reward/mean_of_all": fmean(
                reward.score for judged in self._rounds for reward in judged.rewards if reward.error is None
            ),
        }
