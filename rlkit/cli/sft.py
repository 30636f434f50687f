"""`rlkit sft`."""

from __future__ import annotations

from typing import Annotated

import typer

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
    Seed,
    Steps,
    Workers,
    choose_output,
    common_flags,
    resolve,
    show_plan,
)


def sft(
    file: ProjectFile = None,
    model: Model = None,
    data: Annotated[
        list[str] | None, typer.Option(help="File or Hub id to learn from (data.train); may be repeated.")
    ] = None,
    validation: Annotated[
        list[str] | None, typer.Option(help="File for the validation loss (data.validation); may be repeated.")
    ] = None,
    epochs: Annotated[int | None, typer.Option(help="Passes over the data (sft.epochs).")] = None,
    steps: Steps = None,
    batch_size: Annotated[int | None, typer.Option(help="Conversations an optimizer step (sft.batch_size).")] = None,
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
    """Fine-tune a model on conversations."""
    flags = [
        *common_flags(model=model, name=name, output=output, seed=seed, device=device, resume=resume),
        Flag("placement.workers", "--workers", workers),
        Flag("data.train", "--data", data),
        Flag("data.validation", "--validation", validation),
        Flag("sft.epochs", "--epochs", epochs),
        Flag("sft.steps", "--steps", steps),
        Flag("sft.batch_size", "--batch-size", batch_size),
        Flag("sft.lr", "--lr", lr),
    ]
    resolved = resolve("sft", file, assignments, flags)
    if dry_run:
        return show_plan(resolved, as_json=as_json)
    choose_output(as_json=as_json)
    from rlkit.pipelines.sft import run_sft

    run_sft(resolved)
    return None
