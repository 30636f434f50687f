"""`rlkit generate`."""

from __future__ import annotations

from typing import Annotated

import typer

from rlkit.cli.run_options import (
    AsJson,
    Assignments,
    Device,
    DryRun,
    Flag,
    Model,
    ProjectFile,
    Seed,
    choose_output,
    resolve,
    show_plan,
)


def generate(
    file: ProjectFile = None,
    model: Model = None,
    prompts: Annotated[
        list[str] | None, typer.Option("--prompts", "--data", help="Prompt file or Hub id; may be repeated.")
    ] = None,
    output: Annotated[str | None, typer.Option(help="Completions file to write (generation.output).")] = None,
    engine: Annotated[str | None, typer.Option(help="Rollout engine plugin (generation.engine).")] = None,
    samples: Annotated[int | None, typer.Option(help="Answers to each prompt (generation.samples_per_prompt).")] = None,
    replicas: Annotated[
        int | None, typer.Option(help="Copies of the engine, on Ray; 0 is none but this process (generation.replicas).")
    ] = None,
    retry_failed: Annotated[
        bool, typer.Option("--retry-failed", help="Try rows again that an earlier run recorded as failed.")
    ] = False,
    temperature: Annotated[float | None, typer.Option(help="0 is greedy (generation.temperature).")] = None,
    max_tokens: Annotated[
        int | None, typer.Option(help="Longest answer in tokens (generation.max_response_tokens).")
    ] = None,
    limit: Annotated[int | None, typer.Option(help="Only the first prompts (generation.limit).")] = None,
    seed: Seed = None,
    device: Device = None,
    assignments: Assignments = None,
    dry_run: DryRun = False,
    as_json: AsJson = False,
) -> None:
    """Answer a file of prompts with a model; rows already answered are not made again."""
    flags = [
        Flag("model.path", "--model", model),
        Flag("generation.prompts", "--prompts", prompts),
        Flag("generation.output", "--output", output),
        Flag("generation.engine", "--engine", engine),
        Flag("generation.samples_per_prompt", "--samples", samples),
        Flag("generation.replicas", "--replicas", replicas),
        Flag("generation.retry_failed", "--retry-failed", retry_failed or None),
        Flag("generation.temperature", "--temperature", temperature),
        Flag("generation.max_response_tokens", "--max-tokens", max_tokens),
        Flag("generation.limit", "--limit", limit),
        Flag("run.seed", "--seed", seed),
        Flag("run.device", "--device", device),
    ]
    resolved = resolve("generate", file, assignments, flags)
    if dry_run:
        return show_plan(resolved, as_json=as_json)
    choose_output(as_json=as_json)
    from rlkit.pipelines.generate import run_generate

    run_generate(resolved)
    return None
