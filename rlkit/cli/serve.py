"""`rlkit serve`."""

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


def serve(
    file: ProjectFile = None,
    model: Model = None,
    engine: Annotated[str | None, typer.Option(help="Rollout engine plugin (serve.engine).")] = None,
    host: Annotated[str | None, typer.Option(help="Address to listen on (serve.host).")] = None,
    port: Annotated[int | None, typer.Option(help="Port to listen on; 0 takes a free one (serve.port).")] = None,
    model_name: Annotated[
        str | None, typer.Option("--model-name", help="What clients call the model (serve.model_name).")
    ] = None,
    api_key_env: Annotated[
        str | None,
        typer.Option("--api-key-env", metavar="NAME", help="Environment variable with the key (serve.api_key_env)."),
    ] = None,
    seed: Seed = None,
    device: Device = None,
    assignments: Assignments = None,
    dry_run: DryRun = False,
    as_json: AsJson = False,
) -> None:
    """Answer an OpenAI-compatible API with a model, until Ctrl-C or SIGTERM."""
    flags = [
        Flag("model.path", "--model", model),
        Flag("serve.engine", "--engine", engine),
        Flag("serve.host", "--host", host),
        Flag("serve.port", "--port", port),
        Flag("serve.model_name", "--model-name", model_name),
        Flag("serve.api_key_env", "--api-key-env", api_key_env),
        Flag("run.seed", "--seed", seed),
        Flag("run.device", "--device", device),
    ]
    resolved = resolve("serve", file, assignments, flags)
    if dry_run:
        return show_plan(resolved, as_json=as_json)
    choose_output(as_json=as_json)
    from rlkit.pipelines.serve import run_serve

    run_serve(resolved, as_json=as_json)
    return None
