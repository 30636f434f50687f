"""`rlkit replay`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from rlkit.cli.run_options import Assignments

if TYPE_CHECKING:
    from rlkit.reports.replay_comparison import NumberPair, ReplayComparison


def replay(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="Run folder, such as runs/ppo.")],
    step: Annotated[int, typer.Option(help="Step whose update is repeated, counted from 1.")],
    assignments: Assignments = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False,
) -> None:
    """Repeat the update of a step from its stored rollouts, and compare the numbers."""
    from rlkit.pipelines.replay import run_replay

    comparison = run_replay(run, step, assignments=assignments or ())
    if as_json:
        typer.echo(json.dumps(comparison.as_json(), indent=2))
    else:
        _print(comparison)


def _print(comparison: ReplayComparison) -> None:
    width = max(len(pair.name) for pair in comparison.numbers)
    typer.echo(f"{'':<{width}}  {'recorded':>24}  {'recomputed':>24}  difference")
    for pair in comparison.numbers:
        typer.echo(
            f"{pair.name:<{width}}  {_number(pair.recorded, pair.missing == 'recorded'):>24}  "
            f"{_number(pair.recomputed, pair.missing == 'recomputed'):>24}  {_difference(pair)}".rstrip()
        )
    typer.echo(f"\n{'for each token':<{width}}  {'tokens':>24}  {'that differ':>24}  largest difference")
    for tokens in comparison.tokens:
        largest = f"{tokens.largest:.3g}" if tokens.differing else "0"
        mark = "" if not tokens.differing else "  (a setting was changed)" if tokens.expected else "  <"
        typer.echo(f"{tokens.name:<{width}}  {tokens.tokens:>24}  {tokens.differing:>24}  {largest}{mark}")
    typer.echo("")
    for line in comparison.sentences():
        typer.echo(line)


def _number(value: float | None, missing: bool) -> str:
    if missing:
        return "-"
    return "not finite" if value is None else repr(value)


def _difference(pair: NumberPair) -> str:
    if pair.equal:
        return "0"
    difference = "" if pair.difference is None else f"{pair.difference:+.3g}"
    return f"{difference}  (a setting was changed)" if pair.expected else f"{difference}  <"
