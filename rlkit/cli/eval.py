"""`rlkit eval`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from rlkit.cli.run_options import AsJson, Assignments, DryRun, Flag, Rewards, Seed, resolve, show_plan
from rlkit.errors import ConfigError

PROJECT_FILE_ENDINGS = (".toml", ".yaml", ".yml")


def evaluate(
    inputs: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[FILE] [COMPLETIONS]...",
            help="Project file (TOML or YAML) and completions files; each is compared with the first.",
        ),
    ] = None,
    reward: Rewards = None,
    output: Annotated[str | None, typer.Option(help="JSON file for the result (evaluation.output).")] = None,
    confidence: Annotated[
        float | None, typer.Option(help="Level of the intervals, such as 0.95 (evaluation.confidence).")
    ] = None,
    seed: Seed = None,
    assignments: Assignments = None,
    dry_run: DryRun = False,
    as_json: AsJson = False,
) -> None:
    """Score completions, with intervals and paired comparisons."""
    files = [text for text in inputs or () if text.endswith(PROJECT_FILE_ENDINGS)]
    completions = [text for text in inputs or () if text not in files]
    if len(files) > 1:
        raise ConfigError(f"{len(files)} project files are given ({', '.join(files)}); give one")
    flags = [
        Flag("evaluation.completions", "COMPLETIONS", completions or None),
        Flag("reward.functions", "--reward", reward),
        Flag("evaluation.output", "--output", output),
        Flag("evaluation.confidence", "--confidence", confidence),
        Flag("run.seed", "--seed", seed),
    ]
    resolved = resolve("eval", Path(files[0]) if files else None, assignments, flags)
    if dry_run:
        return show_plan(resolved, as_json=as_json)
    from rlkit.pipelines.evaluate import run_evaluate

    run_evaluate(resolved, as_json=as_json)
    return None
