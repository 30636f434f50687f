"""`rlkit runs`: the runs of a folder, and how some of them differ."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from rlkit.cli.command import Command

runs_app = typer.Typer(
    name="runs",
    help="List runs and compare them.",
    no_args_is_help=True,
    rich_markup_mode=None,
    add_completion=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

_JSON = Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")]


@runs_app.command("list", cls=Command)
def list_runs(
    folder: Annotated[Path, typer.Argument(metavar="[FOLDER]", help="Folder that holds run folders.")] = Path("runs"),
    as_json: _JSON = False,
) -> None:
    """List the runs of a folder: kind, status, steps, key metric with its interval, duration, when."""
    from rlkit.reports.run_list import render_runs, summarise_runs

    summaries = summarise_runs(folder)
    typer.echo(json.dumps([one.as_json() for one in summaries], indent=2) if as_json else render_runs(summaries))


@runs_app.command("compare", cls=Command)
def compare(
    runs: Annotated[list[Path], typer.Argument(metavar="RUN RUN...", help="Run folders; all against the first.")],
    as_json: _JSON = False,
) -> None:
    """Compare runs: settings that differ, validations with intervals and a paired test, metrics at equal steps."""
    from rlkit.reports.run_comparison import compare_runs
    from rlkit.reports.run_comparison_text import render_comparison

    comparison = compare_runs(runs)
    typer.echo(json.dumps(comparison.as_json(), indent=2) if as_json else render_comparison(comparison))
