"""`rlkit report`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def report(
    runs: Annotated[list[Path], typer.Argument(metavar="RUN...", help="Run folders, such as runs/ppo.")],
) -> None:
    """Write a run's offline HTML report."""
    from rlkit.reports.html import write_report

    for run in runs:
        typer.echo(str(write_report(run)))
