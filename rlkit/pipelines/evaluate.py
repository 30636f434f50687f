"""`rlkit eval`: reward functions and completions files in, tables, sentences and a JSON file out."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from rlkit.evaluation.evaluate import EvaluationResult, as_json_values, evaluate_files
from rlkit.evaluation.statistics import IntervalSettings
from rlkit.evaluation.tables import conclusions, plain_text, result_tables
from rlkit.rewards.scorer import build_scorer
from rlkit.tracking.run_folder import write_atomically

if TYPE_CHECKING:
    from rlkit.config.load import Resolved
    from rlkit.evaluation.tables import TextTable

ProgressStarter = Callable[[str, int], Callable[[int], None]]


def run_evaluate(resolved: Resolved, *, as_json: bool = False) -> EvaluationResult:
    """Score, compare, print, and write `evaluation.output` when it is set."""
    config = resolved.config
    section = config.evaluation
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
    _print_tables(result_tables(result))
    for sentence in conclusions(result):
        print(f"\n{sentence}")
    if section.output:
        print(f"\nresult: {section.output}")
    return result


def _write(path: Path, result: EvaluationResult) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
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


def _print_tables(tables: list[TextTable]) -> None:
    if not sys.stdout.isatty():
        print("\n\n".join(plain_text(table) for table in tables))
        return
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console(highlight=False)
    for table in tables:
        shown = Table(title=Text(table.title), title_justify="left", title_style="bold", box=box.SIMPLE_HEAD)
        for position, name in enumerate(table.header):
            shown.add_column(name, justify="right" if position else "left")
        for row in table.rows:
            shown.add_row(*map(Text, row))
        console.print(shown)
        for note in table.notes:
            console.print(f"  {note}", style="dim", markup=False)
