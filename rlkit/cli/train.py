"""`rlkit train`."""

from __future__ import annotations

from typing import Annotated

import typer

from rlkit.cli.command import Command
from rlkit.cli.run_options import (
    AsJson,
    Assignments,
    Device,
    DryRun,
    Flag,
    LearningRate,
    Model,
    Name,
    Output,
    ProjectFile,
    Resume,
    Rewards,
    Seed,
    Steps,
    Workers,
    choose_output,
    common_flags,
    resolve,
    show_plan,
)

train_app = typer.Typer(
    name="train",
    help="Train a model by reinforcement learning.",
    no_args_is_help=True,
    rich_markup_mode=None,
    add_completion=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


@train_app.callback()
def _group() -> None:
    """Train a model by reinforcement learning."""


@train_app.command("ppo", cls=Command)
def ppo(
    file: ProjectFile = None,
    model: Model = None,
    data: Annotated[list[str] | None, typer.Option(help="Prompt file or Hub id (data.train); may be repeated.")] = None,
    validation: Annotated[
        list[str] | None, typer.Option(help="Validation prompts (data.validation); may be repeated.")
    ] = None,
    reward: Rewards = None,
    advantage: Annotated[str | None, typer.Option(help="Advantage estimator (algorithm.advantage).")] = None,
    engine: Annotated[str | None, typer.Option(help="Rollout engine plugin (rollout.engine).")] = None,
    samples: Annotated[int | None, typer.Option(help="Answers to each prompt (rollout.samples_per_prompt).")] = None,
    steps: Steps = None,
    lr: LearningRate = None,
    name: Name = None,
    output: Output = None,
    seed: Seed = None,
    device: Device = None,
    workers: Workers = None,
    resume: Resume = None,
    assignments: Assignments = None,
    dry_run: DryRun = False,
    as_json: AsJson = False,
) -> None:
    """Proximal policy optimisation: prompts, a reward, and a better model."""
    flags = [
        *common_flags(model=model, name=name, output=output, seed=seed, device=device, resume=resume),
        Flag("placement.workers", "--workers", workers),
        Flag("data.train", "--data", data),
        Flag("data.validation", "--validation", validation),
        Flag("reward.functions", "--reward", reward),
        Flag("algorithm.advantage", "--advantage", advantage),
        Flag("rollout.engine", "--engine", engine),
        Flag("rollout.samples_per_prompt", "--samples", samples),
        Flag("trainer.steps", "--steps", steps),
        Flag("actor.lr", "--lr", lr),
    ]
    resolved = resolve("ppo", file, assignments, flags)
    if dry_run:
        return show_plan(resolved, as_json=as_json)
    choose_output(as_json=as_json)
    from rlkit.pipelines.ppo import run_ppo

    run_ppo(resolved)
    return None
