"""`rlkit report`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def report(
    runs: Annotated[
        list[Path], typer.Argument(metavar="RUN...", help="Run folders, such as runs/ppo; several are overlaid.")
    ],
    output: Annotated[
        Path | None,
        typer.Option(
            help="HTML file to write; by default report.html in the run's folder, or comparison.html beside the first of several."
        ),
    ] = None,
) -> None:
    """Write the offline HTML report of a run, or of several overlaid."""
    from rlkit.reports.html import write_report

    typer.echo(str(write_report(*runs, output=output)))
