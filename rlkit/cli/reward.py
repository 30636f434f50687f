"""`rlkit reward`: what can be done with a reward before any training."""

from __future__ import annotations

from typing import Annotated

import typer

from rlkit.cli.command import Command
from rlkit.cli.run_options import Assignments, Seed

reward_app = typer.Typer(
    name="reward",
    help="Try a reward before any training.",
    no_args_is_help=True,
    rich_markup_mode=None,
    add_completion=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


@reward_app.callback()
def reward() -> None:
    """Try a reward before any training."""


@reward_app.command("test", cls=Command)
def test(
    rewards: Annotated[
        list[str],
        typer.Argument(
            metavar="REWARD...",
            help="Reward plugins, file.py, file.py:function or package.module:attr; or the project file of a run.",
        ),
    ],
    data: Annotated[
        list[str] | None, typer.Option(help="Prompt file or Hub id with reference answers; may be repeated.")
    ] = None,
    completions: Annotated[
        list[str] | None,
        typer.Option(help="Completions file as `rlkit generate` writes it; may be repeated."),
    ] = None,
    rows: Annotated[
        int, typer.Option(min=1, help="Rows of the data, drawn at random; of the completions the first.")
    ] = 200,
    probe_rows: Annotated[int, typer.Option(min=0, help="Rows on which the probes are tried.")] = 25,
    seed: Seed = None,
    assignments: Assignments = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")] = False,
) -> None:
    """Score real rows and answers that deserve nothing; exit code 5 when an answer could not be judged."""
    from rlkit.pipelines.reward_test import run_reward_test

    run_reward_test(
        rewards,
        data=data or (),
        completions=completions or (),
        rows=rows,
        probe_rows=probe_rows,
        seed=seed,
        assignments=assignments or (),
        as_json=as_json,
    )
