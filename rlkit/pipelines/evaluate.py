"""`rlkit eval`: reward functions and answers in, tables, sentences and a JSON file out.

completions files ─┐
models ── answers ─┴─> verdicts ─> scores, intervals, comparisons      (tasks of lm-evaluation-harness: pipelines.tasks)
"""

from __future__ import annotations

import json
import shutil
import sys
import textwrap
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from rlkit.config.runs import EvalConfig
from rlkit.evaluation.evaluate import EvaluationResult, evaluate_files
from rlkit.evaluation.result_json import as_json_values
from rlkit.evaluation.statistics import IntervalSettings
from rlkit.evaluation.tables import conclusions, result_tables
from rlkit.evaluation.text_table import plain_text
from rlkit.evaluation.verdicts import VerdictFile
from rlkit.pipelines.evaluation_names import digest, file_name
from rlkit.pipelines.evaluation_scorer import evaluation_scorer, judge_of
from rlkit.pipelines.evaluation_settings import evaluated_models, evaluation_folder, result_file
from rlkit.tracking.output_file import check_writable
from rlkit.tracking.run_folder import write_atomically

if TYPE_CHECKING:
    from rlkit.config.load import Resolved

ProgressStarter = Callable[[str, int], Callable[[int], None]]


def run_evaluate(resolved: Resolved, *, as_json: bool = False) -> EvaluationResult:
    """Make answers, judge them, compare, print, and write the result where one is to be kept."""
    config = resolved.config
    assert isinstance(config, EvalConfig)
    folder, output = evaluation_folder(config), result_file(config)
    if output is not None:
        check_writable(output, remedy="choose another --output")
    if config.evaluation.tasks:
        from rlkit.pipelines.tasks import evaluate_tasks

        assert folder is not None
        result = evaluate_tasks(config, folder, interval_settings(config), quiet=as_json)
    else:
        result = _evaluate_answers(config, folder, quiet=as_json)
    if output is not None:
        write_atomically(output, json.dumps(as_json_values(result), indent=1) + "\n")
    if as_json:
        print(json.dumps(as_json_values(result)))
        return result
    for warning in result.warnings:
        print(f"warning: {warning}", file=sys.stderr)
    _print_result(result)
    if output is not None:
        kept = f"; every answer's verdict: {folder}/" if folder is not None else ""
        print(f"\nresult: {output}{kept}")
    return result


def interval_settings(config: EvalConfig) -> IntervalSettings:
    section = config.evaluation
    return IntervalSettings(section.confidence, section.bootstrap_samples, config.run.seed, section.interval)


def _evaluate_answers(config: EvalConfig, folder: Path | None, *, quiet: bool) -> EvaluationResult:
    section = config.evaluation
    labels = dict.fromkeys(section.completions, "")
    if config.asks_models:
        labels |= _answers_of_models(config, folder)
    judge = judge_of(config)

    def verdicts(path: str) -> VerdictFile | None:
        return None if folder is None else VerdictFile.open(_verdict_path(folder, path), judge)

    with evaluation_scorer(config) as scorer, _progress(quiet=quiet) as on_start:
        return evaluate_files(
            list(labels),
            scorer,
            functions=config.reward.functions,
            settings=interval_settings(config),
            labels=labels,
            functions_by_source=section.rewards,
            cluster=section.cluster,
            verdicts=verdicts,
            on_start=on_start,
        )


def _answers_of_models(config: EvalConfig, folder: Path | None) -> dict[str, str]:
    """Completions file -> the model whose answers it holds, in the order in which they are compared."""
    from rlkit.pipelines.evaluated_models import completions_of

    assert folder is not None
    labels = {}
    for model in evaluated_models(config):
        labels[str(completions_of(config, model, folder))] = model.label
    return labels


def _verdict_path(folder: Path, completions: str) -> Path:
    """In `folder`, with a name that files of the same name in different folders do not share."""
    path = Path(completions)
    beside = path.resolve().parent == folder.resolve()
    name = path.stem if beside else f"{file_name(path.stem)}-{digest(str(path.resolve()))}"
    return folder / f"{name}.verdicts.jsonl"


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
