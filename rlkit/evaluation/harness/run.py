"""Running the harness on one model."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Mapping, Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rlkit.errors import ConfigError

RESAMPLES = 1000
"""For standard errors without a formula. The harness's own 100,000 take minutes, for digits that nobody reads."""


@dataclass(frozen=True)
class TaskSettings:
    """What is run. include_path: a folder of task files, or empty; fewshot None and limit None leave both to the tasks."""

    tasks: tuple[str, ...]
    include_path: str = ""
    fewshot: int | None = None
    limit: int | None = None
    chat: bool = False
    seed: int = 0


def run_tasks(model: Any, settings: TaskSettings, *, cache: Path | None = None) -> Mapping[str, Any]:
    """The harness's own results, each document's included.

    model: an instance of the harness's `LM`. cache: beginning of the name of a file that keeps every answer, so that an
    interrupted run goes on where it was. Raises `ConfigError` for tasks that do not exist.
    """
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    # So few resamples need no copies of this process, which holds a model and an engine's threads.
    os.environ.setdefault("DISABLE_MULTIPROC", "1")
    from lm_eval import simple_evaluate
    from lm_eval.tasks import TaskManager

    manager = None
    if settings.include_path:
        # Reading the harness's own thousands of task files takes seconds, which tasks of one's own can do without.
        manager = TaskManager(include_path=settings.include_path, include_defaults=False)
    if manager is None or not set(settings.tasks) <= set(manager.all_subtasks):
        manager = TaskManager(include_path=settings.include_path or None)
        _check_tasks(settings.tasks, manager.all_tasks)
    logging.getLogger("lm_eval").setLevel(logging.WARNING)
    if cache is not None:
        cache.parent.mkdir(parents=True, exist_ok=True)
    seeds = dict.fromkeys(
        ("random_seed", "numpy_random_seed", "torch_random_seed", "fewshot_random_seed"), settings.seed
    )
    with redirect_stdout(sys.stderr):  # it says there what it resamples, where a result is to be
        results: Mapping[str, Any] | None = simple_evaluate(
            model=model,
            tasks=list(settings.tasks),
            num_fewshot=settings.fewshot,
            limit=settings.limit,
            use_cache=None if cache is None else str(cache),
            bootstrap_iters=RESAMPLES,
            log_samples=True,
            apply_chat_template=settings.chat,
            task_manager=manager,
            **seeds,
        )
    if results is None:
        raise ConfigError(f"the harness gave no results for {', '.join(settings.tasks)}")
    return results


def _check_tasks(tasks: Sequence[str], known: Sequence[str]) -> None:
    from difflib import get_close_matches

    for task in tasks:
        if task not in known:
            near = get_close_matches(task, known, n=3, cutoff=0.6)
            hint = f"; near: {', '.join(near)}" if near else ""
            raise ConfigError(
                f"evaluation.tasks: there is no task or group {task!r} among the {len(known)} of lm-evaluation-harness and "
                f"evaluation.include_path{hint}"
            )
