"""Options that several run commands share, and how they become a resolved config."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from rlkit.config.load import Resolved

ProjectFile = Annotated[Path | None, typer.Argument(metavar="FILE", help="Project file (TOML or YAML).")]
Assignments = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Set any config key, such as actor.lr=1e-6; may be repeated."),
]
Model = Annotated[str | None, typer.Option(help="Model folder, run folder or Hub id (model.path).")]
Name = Annotated[str | None, typer.Option(help="Name of the run (run.name).")]
Output = Annotated[str | None, typer.Option(help="Folder that holds the run folders (run.output).")]
Seed = Annotated[int | None, typer.Option(help="Seed of everything random (run.seed).")]
Device = Annotated[str | None, typer.Option(help="auto, cpu, cuda or cuda:N (run.device).")]
Resume = Annotated[str | None, typer.Option(help="auto, never or must (run.resume).")]
Steps = Annotated[int | None, typer.Option(help="Steps of the run.")]
LearningRate = Annotated[float | None, typer.Option("--lr", help="Peak learning rate.")]
Rewards = Annotated[
    list[str] | None,
    typer.Option("--reward", help="Reward plugin, file.py:function or package.module:attr; may be repeated."),
]
Workers = Annotated[
    int | None, typer.Option(help="Processes on Ray that the model is spread over, a device each (placement.workers).")
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Say what would be assembled, without loading any weights.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print machine-readable JSON lines instead of progress.")]


@dataclass(frozen=True)
class Flag:
    """A plain option: the config key that it sets, its spelling, the value given (None: not given)."""

    key: str
    spelling: str
    value: Any


def resolve(kind: str, file: Path | None, assignments: Sequence[str] | None, flags: Sequence[Flag]) -> Resolved:
    """Merge all sources and check what can be checked before anything heavy loads."""
    from rlkit.config.load import load_config
    from rlkit.pipelines.preflight import check_run

    given: Mapping[str, Any] = {flag.key: flag.value for flag in flags if flag.value is not None}
    resolved = load_config(
        kind,
        file,
        assignments=assignments or (),
        flags=given,
        flag_names={flag.key: flag.spelling for flag in flags},
    )
    check_run(resolved)
    return resolved


def common_flags(
    *, model: str | None, name: str | None, output: str | None, seed: int | None, device: str | None, resume: str | None
) -> list[Flag]:
    """The flags that training commands share."""
    return [
        Flag("model.path", "--model", model),
        Flag("run.name", "--name", name),
        Flag("run.output", "--output", output),
        Flag("run.seed", "--seed", seed),
        Flag("run.device", "--device", device),
        Flag("run.resume", "--resume", resume),
    ]


def show_plan(resolved: Resolved, *, as_json: bool) -> None:
    """What --dry-run prints."""
    from rlkit.pipelines.plan import build_plan
    from rlkit.pipelines.plan_render import print_plan

    print_plan(build_plan(resolved), json=as_json)


def choose_output(*, as_json: bool) -> None:
    """Tell the progress hook how to speak, and people that something is happening."""
    if as_json:
        os.environ["RLKIT_OUTPUT"] = "json"
    elif sys.stderr.isatty():
        # Importing torch takes seconds. Every line that may come next is longer and covers this one.
        print("starting ...", end="\r", file=sys.stderr, flush=True)
