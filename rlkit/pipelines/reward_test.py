"""`rlkit reward test`: rewards, rows and completions in; scores, latency, probes and what they mean out."""

from __future__ import annotations

import importlib
import inspect
import json
import logging
import random
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from rlkit.config.kind import kind_of_file
from rlkit.config.load import load_config
from rlkit.data.prompts import load_prompts
from rlkit.errors import ConfigError, RewardError
from rlkit.evaluation.completions import load_completions
from rlkit.pipelines.reward_test_view import as_json_values, print_trial
from rlkit.plugin.references import load_reference
from rlkit.rewards.findings import find_all
from rlkit.rewards.scorer import Scorer, build_scorer
from rlkit.rewards.trial import JudgedAnswer, Trial, try_reward
from rlkit.types.prompts import Prompt
from rlkit.types.reward import Sample

if TYPE_CHECKING:
    from rlkit.config.load import Resolved

PROJECT_FILE_ENDINGS = (".toml", ".yaml", ".yml")
USUAL_NAMES = ("score", "compute_score", "reward", "reward_func", "reward_fn")
"""Functions that a file given without one may mean."""
READ_AT_MOST = 20_000
"""Rows of the data from which those to try are drawn."""


def run_reward_test(
    rewards: Sequence[str],
    *,
    data: Sequence[str] = (),
    completions: Sequence[str] = (),
    rows: int = 200,
    probe_rows: int = 25,
    seed: int | None = None,
    assignments: Sequence[str] = (),
    as_json: bool = False,
) -> Trial:
    """Try, print, and return what was found.

    rewards: names as in `reward.functions`, or one project file whose `[reward]` and `[data]` count. Raises `RewardError`,
    after printing, when any answer could not be judged.
    """
    resolved = _resolve(rewards, data, seed, assignments)
    config = resolved.config
    paths = config.data.train if resolved.kind == "ppo" else tuple(data)
    prompts = _load_prompts(resolved, paths, rows)
    samples = [sample for path in completions for row in load_completions(path)[:rows] for sample in row.samples]
    if not prompts and not samples:
        raise ConfigError("nothing to score; give a file of rows with --data, or of answers with --completions")
    section = config.reward.model_copy(update={"on_error": "leave_out", "max_error_fraction": 1.0})
    with build_scorer(section, seed=config.run.seed) as scorer, _quiet(), _progress(quiet=as_json) as tell:
        trial = try_reward(prompts, samples, _timed(scorer), probe_rows=probe_rows, seed=config.run.seed, tell=tell)
    names = tuple(config.reward.functions)
    if as_json:
        print(json.dumps(as_json_values(trial, functions=names, data=paths, completions=completions)))
    else:
        print_trial(trial, functions=names, data=paths, completions=completions)
    failed = sum(answer.failed for answer in trial.answers)
    if failed:
        first = next(finding for finding in find_all(trial) if finding.level == "unusable")
        raise RewardError(
            f"{failed} of {len(trial.answers)} answers could not be judged; {first.text.partition(', ')[2]}"
        )
    return trial


def _resolve(rewards: Sequence[str], data: Sequence[str], seed: int | None, assignments: Sequence[str]) -> Resolved:
    files = [name for name in rewards if name.endswith(PROJECT_FILE_ENDINGS)]
    if len(files) > 1:
        raise ConfigError(f"{len(files)} project files are given ({', '.join(files)}); give one")
    file = Path(files[0]) if files else None
    kind = "ppo" if file is None else kind_of_file(file)
    if kind not in ("ppo", "eval"):
        raise ConfigError(f"{file} is for `rlkit {kind}`, which judges nothing; give a project file with a [reward]")
    names = tuple(_with_function(name) for name in rewards if name not in files)
    flags = {
        "reward.functions": names or None,
        "data.train": tuple(data) if data and kind == "ppo" else None,
        "run.seed": seed,
    }
    spellings = {"reward.functions": "REWARD", "data.train": "--data", "run.seed": "--seed"}
    given = {key: value for key, value in flags.items() if value is not None}
    resolved = load_config(kind, file, assignments=assignments, flags=given, flag_names=spellings)
    if not resolved.config.reward.functions:
        raise ConfigError(f"{file} names no reward in reward.functions; name one on the command line")
    return resolved


def _with_function(name: str) -> str:
    """`reward.py` means the function in it that is called as such functions usually are, or its only one."""
    if not name.endswith(".py"):
        return name
    load_reference(f"{name}:__name__")  # raises for a file that is missing or broken
    module = importlib.import_module(_module_of(name))
    own = [
        key for key, value in vars(module).items() if inspect.isfunction(value) and value.__module__ == module.__name__
    ]
    public = [key for key in own if not key.startswith("_")]
    usual = [key for key in USUAL_NAMES if key in public]
    chosen = usual[:1] or (public if len(public) == 1 else [])
    if not chosen:
        listed = ", ".join(f"{name}:{key}" for key in public) or "none"
        raise ConfigError(f"{name} may mean several functions; name one: {listed}")
    return f"{name}:{chosen[0]}"


def _module_of(name: str) -> str:
    from rlkit.plugin.references import file_module_name

    return file_module_name(Path(name).expanduser())


def _load_prompts(resolved: Resolved, paths: Sequence[str], rows: int) -> list[Prompt]:
    """`rows` of the rows, drawn at random, in file order."""
    if not paths:
        return []
    section = resolved.config.data if resolved.kind == "ppo" else None
    prompts = load_prompts(
        paths,
        prompt_key="" if section is None else section.prompt_key,
        reference_key="" if section is None else section.reference_key,
        system_prompt="" if section is None else section.system_prompt,
        limit=READ_AT_MOST,
    )
    if len(prompts) <= rows:
        return prompts
    chosen = random.Random(resolved.config.run.seed).sample(prompts, rows)
    return sorted(chosen, key=lambda prompt: prompt.row_id)


def _timed(scorer: Scorer) -> Callable[[Sequence[Sample]], list[JudgedAnswer]]:
    """The scorer, with the seconds that each answer took."""

    def judge(samples: Sequence[Sample]) -> list[JudgedAnswer]:
        judging = scorer.begin(samples)
        rewards = judging.result()
        return [JudgedAnswer(*row) for row in zip(samples, rewards, judging.seconds, strict=True)]

    return judge


@contextmanager
def _quiet() -> Iterator[None]:
    """Errors are counted and shown at the end, not logged one by one."""
    logger = logging.getLogger("rlkit")
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(before)


@contextmanager
def _progress(*, quiet: bool) -> Iterator[Callable[[str, int], None]]:
    """What is being judged, on a terminal, on stderr."""
    if quiet or not sys.stderr.isatty():
        yield lambda what, answers: None
        return
    from rich.console import Console

    console = Console(stderr=True)
    with console.status("starting") as status:
        yield lambda what, answers: status.update(f"judging {what} ({answers} answers)")
