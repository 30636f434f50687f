"""`rlkit eval`: reward functions and completions files in, tables, sentences and a JSON file out."""

from __future__ import annotations

import json
import shutil
import sys
import textwrap
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from rlkit.evaluation.evaluate import EvaluationResult, as_json_values, evaluate_files
from rlkit.evaluation.statistics import IntervalSettings
from rlkit.evaluation.tables import conclusions, plain_text, result_tables
from rlkit.rewards.scorer import build_scorer
from rlkit.tracking.output_file import check_writable
from rlkit.tracking.run_folder import write_atomically

if TYPE_CHECKING:
    from rlkit.config.load import Resolved

ProgressStarter = Callable[[str, int], Callable[[int], None]]


def run_evaluate(resolved: Resolved, *, as_json: bool = False) -> EvaluationResult:
    """Score, compare, print, and write `evaluation.output` when it is set."""
    config = resolved.config
    section = config.evaluation
    if section.output:
        check_writable(Path(section.output), remedy="choose another --output")
    with build_scorer(config.reward) as scorer, _progress(quiet=as_json) as on_start:
        result = evaluate_files(
            section.completions,
            scorer,
            functions=config.reward.functions,
            settings=IntervalSettings(section.confidence, section.bootstrap_samples, config.run.seed),
            on_start=on_start,
        )
    if section.output:
        _write(Path(section.output), result)
    if as_json:
        print(json.dumps(as_json_values(result)))
        return result
    for warning in result.warnings:
        print(f"warning: {warning}", file=sys.stderr)
    _print_result(result)
    if section.output:
        print(f"\nresult: {section.output}")
    return result


def _write(path: Path, result: EvaluationResult) -> None:
    write_atomically(path, json.dumps(as_json_values(result), indent=1) + "\n")


@contextmanager
def _progress(*, quiet: bool) -> Iterator[ProgressStarter]:
    """A bar for each file on a terminal, else one line for each; on stderr, so that stdout holds the result alone."""
    if quiet:
        yield lambda path, prompts: lambda done: None
        return
    if not sys.stderr.isatty():
        yield _tell
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("scoring {task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bars:

        def start(path: str, prompts: int) -> Callable[[int], None]:
            task = bars.add_task(path, total=prompts)
            return lambda done: bars.advance(task, done)

        yield start


def _tell(path: str, prompts: int) -> Callable[[int], None]:
    print(f"scoring {path}: {prompts} prompts", file=sys.stderr)
    return lambda done: None


def _print_result(result: EvaluationResult) -> None:
    """Tables and sentences, no wider than the terminal where there is one."""
    width = shutil.get_terminal_size().columns if sys.stdout.isatty() else 0
    print("\n\n".join(plain_text(table, width=width) for table in result_tables(result)))
    for sentence in conclusions(result):
        print()
        print(textwrap.fill(sentence, width, break_long_words=False, break_on_hyphens=False) if width else sentence)
