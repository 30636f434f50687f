"""What the trainer, the nursery and the workers say to each other."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from rlkit.rewards.verdict import Verdict
from rlkit.types.reward import Sample


@dataclass(frozen=True)
class FunctionSource:
    """Where a reward function comes from: enough to load it in another process."""

    name: str
    options: Mapping[str, Any]


@dataclass(frozen=True)
class Surroundings:
    """Trainer to worker, first: what it takes over from the trainer as it is at that moment, and what it may use.

    memory_bytes: that judging may add to what a loaded function takes; 0 for no limit
    """

    functions: tuple[FunctionSource, ...]
    seed: int
    memory_bytes: int
    folder: str
    path: tuple[str, ...]
    environment: Mapping[str, str]


@dataclass(frozen=True)
class Spawn:
    """Trainer to nursery, with two file descriptors: the worker's end of its channel, and its progress.

    path, preload: where modules are found, and reward functions whose modules all workers may share
    """

    worker: int
    path: tuple[str, ...]
    preload: tuple[str, ...]


@dataclass(frozen=True)
class Kill:
    """Trainer to nursery: end this worker and all its children."""

    worker: int


@dataclass(frozen=True)
class Exited:
    """Nursery to trainer; status as `os.waitstatus_to_exitcode` gives it."""

    worker: int
    status: int


@dataclass(frozen=True)
class Task:
    """Trainer to worker: calls of one function, in order, numbered from `first`. Without calls it is only loaded."""

    function: int
    first: int
    calls: tuple[tuple[Sample, ...], ...]


@dataclass(frozen=True)
class Loaded:
    """Worker to trainer: the function of a task without calls is there."""


@dataclass(frozen=True)
class CallDone:
    """Worker to trainer: one call that is done, its verdicts and the seconds it took."""

    verdicts: tuple[Verdict, ...]
    seconds: float


@dataclass(frozen=True)
class Verdicts:
    """Worker to trainer: the next calls that are done, in order."""

    calls: tuple[CallDone, ...]


@dataclass(frozen=True)
class TaskDone:
    """Worker to trainer. worn_out: it has grown too big, or left too many processes behind, and wants to be replaced;
    calls that it has given no verdicts on are for somebody else."""

    worn_out: bool


@dataclass(frozen=True)
class Refused:
    """Worker to trainer: there is no going on with this task.

    is_config: the run's settings or data are at fault, else the function could not be loaded
    """

    reason: str
    is_config: bool
