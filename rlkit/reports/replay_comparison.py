"""A repeated update beside the recorded one: which numbers are the same, and which were expected to be."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from rlkit.tracking.stored_rollouts import StoredStep
from rlkit.trainers.replay import RepeatedUpdate, Stage, is_timing

ALL_UPDATES: frozenset[Stage] = frozenset({"critic", "actor", "reference"})
FROM_EXPERIENCE: frozenset[Stage] = frozenset({"experience", *ALL_UPDATES})

_EVERYTHING = ("model.", "actor.backend", "actor.options", "actor.lora", "reference.", "run.device", "run.threads", "placement.", "cluster.", "critic.path", "critic.backend", "critic.options", "critic.lora", "critic.shared_trunk")  # fmt: skip
_ADVANTAGES = ("reward.", "rollout_correction.", "algorithm.advantage", "algorithm.kl_in_reward", "algorithm.kl_estimator", "algorithm.normalise_advantages", "algorithm.mask_truncated")  # fmt: skip
_ALL_MODELS = ("algorithm.epochs", "algorithm.mini_batch_samples", "run.seed", "critic.warmup_iterations")


@dataclass(frozen=True)
class NumberPair:
    """One metric; None: it is not a finite number, or (see `missing`) not there.

    missing   "recorded" or "recomputed": which of the two does not have it
    expected  a setting that it depends on was changed
    """

    name: str
    recorded: float | None
    recomputed: float | None
    missing: str = ""
    expected: bool = False

    @property
    def equal(self) -> bool:
        """To the bit."""
        return not self.missing and self.recorded == self.recomputed

    @property
    def difference(self) -> float | None:
        """recomputed - recorded."""
        return None if self.recorded is None or self.recomputed is None else self.recomputed - self.recorded


@dataclass(frozen=True)
class TokenPair:
    """A number for each response token: how many tokens, how many of them differ, by how much at most."""

    name: str
    tokens: int
    differing: int
    largest: float
    expected: bool = False

    def as_json(self) -> dict[str, Any]:
        """JSON has no infinity: null stands for it, and for NaN."""
        return {**asdict(self), "largest": self.largest if math.isfinite(self.largest) else None}


@dataclass(frozen=True)
class ReplayComparison:
    """start: the step whose state was loaded (0: the starting model); drifted: the first step between with other log-probs;
    changed: settings that were given other values than the run's."""

    step: int
    start: int
    drifted: int | None
    changed: tuple[str, ...]
    numbers: tuple[NumberPair, ...]
    tokens: tuple[TokenPair, ...]
    left_out: tuple[str, ...] = ()  # recorded metrics of answering and judging, which a replay does not do

    @property
    def equal(self) -> bool:
        """Whether nothing differs that was not expected to."""
        return not self.unexpected

    @property
    def unexpected(self) -> tuple[str, ...]:
        """What differs though no setting was changed that it depends on."""
        numbers = [pair.name for pair in self.numbers if not pair.equal and not pair.expected]
        return (*numbers, *(pair.name for pair in self.tokens if pair.differing and not pair.expected))

    def sentences(self) -> tuple[str, ...]:
        """What came of it, for people."""
        same = sum(pair.equal for pair in self.numbers)
        origin = "the starting model" if self.start == 0 else f"the checkpoint of step {self.start}"
        lines = [
            f"step {self.step}, repeated from {origin}: {same} of {len(self.numbers)} numbers are equal to the bit"
        ]
        if self.drifted is not None:
            lines.append(f"already at step {self.drifted}, on the way, the log-probs differ from those recorded")
        if self.changed:
            differing = [pair.name for pair in self.numbers if pair.expected and not pair.equal]
            lines.append(f"changed: {', '.join(self.changed)}; {len(differing)} numbers that depend on it differ")
        if self.unexpected:
            lines.append(
                f"{len(self.unexpected)} differ that should not, marked <: another machine, number of threads, device or "
                "version of rlkit rounds differently (run.json has those of the run)"
            )
        return tuple(lines)

    def as_json(self) -> dict[str, Any]:
        return {
            "step": self.step,
            "start": self.start,
            "drifted": self.drifted,
            "changed": list(self.changed),
            "equal": self.equal,
            "unexpected": list(self.unexpected),
            "numbers": [{**asdict(pair), "equal": pair.equal, "difference": pair.difference} for pair in self.numbers],
            "tokens": [pair.as_json() for pair in self.tokens],
            "left_out": list(self.left_out),
        }


def compare_replay(
    stored: StoredStep,
    repeated: RepeatedUpdate,
    recorded: Mapping[str, float | None],
    *,
    start: int,
    drifted: int | None,
    changed: Sequence[str],
    shared_trunk: bool,
) -> ReplayComparison:
    """Every number of the step but those of time, memory and the engine."""
    stages, models = affected(changed, shared_trunk=shared_trunk)
    numbers = []
    for stage, metrics in repeated.metrics.items():
        for name, value in metrics.items():
            finite = value if math.isfinite(value) else None
            numbers.append(
                NumberPair(name, recorded.get(name), finite, "" if name in recorded else "recorded", stage in stages)
            )
    known = {pair.name for pair in numbers}
    others = [name for name in recorded if name not in known and not is_timing(name)]
    left_out = tuple(name for name in others if _is_of_answering(name))
    numbers += [
        NumberPair(name, recorded[name], None, "recomputed", bool(stages)) for name in others if name not in left_out
    ]
    tokens = _compare_tokens(stored, repeated, stages, models=models)
    return ReplayComparison(stored.step, start, drifted, tuple(changed), tuple(numbers), tokens, left_out)


def affected(changed: Sequence[str], *, shared_trunk: bool = False) -> tuple[frozenset[Stage], bool]:
    """The stages whose numbers depend on the `changed` settings, and whether what the models say does too."""
    stages: set[Stage] = set()
    models = False
    for key in changed:
        if key.startswith(_EVERYTHING):
            stages |= FROM_EXPERIENCE
            models = True
        elif key.startswith(_ADVANTAGES):
            stages |= FROM_EXPERIENCE
            models = models or key == "rollout_correction.bypass" or key == "rollout_correction.preset"
        elif key.startswith(_ALL_MODELS) or shared_trunk:
            stages |= ALL_UPDATES
        elif key.startswith("critic."):
            stages.add("critic")
        else:
            stages |= {"actor", "reference"}
            if key in ("algorithm.kl_loss",):
                stages.add("experience")  # it may bring a reference into the run
    return frozenset(stages), models


def _is_of_answering(name: str) -> bool:
    """Whether a metric that was not recomputed is of the answering and judging, which a replay does not do."""
    return name.partition("/")[0] in ("rollout", "reward", "response", "conversation")


def _compare_tokens(
    stored: StoredStep, repeated: RepeatedUpdate, stages: frozenset[Stage], *, models: bool
) -> tuple[TokenPair, ...]:
    pairs = []
    for name, before in stored.tokens.items():
        after = getattr(repeated.experience, name)
        of_models = name in ("old_log_probs", "ref_log_probs", "old_values")
        expected = models if of_models else "experience" in stages
        if after is None:
            pairs.append(TokenPair(name, before.num_tokens, before.num_tokens, math.inf, True))
            continue
        old, new = before.values.cpu(), after.values.cpu()
        differing = int(((old != new) & ~(old.isnan() & new.isnan())).sum())
        largest = float((old.double() - new.double()).abs().max()) if differing else 0.0
        pairs.append(TokenPair(name, before.num_tokens, differing, largest, expected))
    return tuple(pairs)
