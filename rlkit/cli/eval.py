"""`rlkit eval`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from rlkit.cli.run_options import AsJson, Assignments, Device, DryRun, Flag, Seed, choose_output, resolve, show_plan
from rlkit.errors import ConfigError

PROJECT_FILE_ENDINGS = (".toml", ".yaml", ".yml")


Inputs = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="[FILE] [COMPLETIONS]...",
        help="Project file (TOML or YAML) and completions files; each is compared with the first.",
    ),
]
Models = Annotated[
    list[str] | None,
    typer.Option(help="Model that answers --prompts or --tasks; may be repeated, each is compared with the first."),
]
Checkpoints = Annotated[
    str | None, typer.Option(metavar="RUN", help="Run folder; all of its checkpoints are evaluated.")
]
PromptFiles = Annotated[
    list[str] | None, typer.Option("--prompts", "--data", help="Prompt file or Hub id for models; may be repeated.")
]
SourceRewards = Annotated[
    list[str] | None,
    typer.Option(
        "--reward",
        help="Reward plugin, file.py:function or package.module:attr, or SOURCE=one of these for one data source; may be repeated.",
    ),
]
ResultFile = Annotated[str | None, typer.Option(help="JSON file for the result (evaluation.output).")]
Folder = Annotated[
    str | None, typer.Option(help="Folder for answers and verdicts, from which it goes on (evaluation.folder).")
]
Engine = Annotated[str | None, typer.Option(help="Rollout engine plugin (generation.engine).")]
Samples = Annotated[int | None, typer.Option(help="Answers to each prompt (generation.samples_per_prompt).")]
Temperature = Annotated[float | None, typer.Option(help="0 is greedy (generation.temperature).")]
MaxTokens = Annotated[int | None, typer.Option(help="Longest answer in tokens (generation.max_response_tokens).")]
Limit = Annotated[int | None, typer.Option(help="Only the first prompts, or documents of each task.")]
Cluster = Annotated[str | None, typer.Option(help="Column that names families of prompts (evaluation.cluster).")]
Confidence = Annotated[float | None, typer.Option(help="Level of the intervals, such as 0.95 (evaluation.confidence).")]
Tasks = Annotated[
    str | None, typer.Option(metavar="NAME[,NAME]", help="Tasks of lm-evaluation-harness (evaluation.tasks).")
]
IncludePath = Annotated[
    str | None, typer.Option(metavar="DIR", help="Folder with task files of your own (evaluation.include_path).")
]
Fewshot = Annotated[int | None, typer.Option(help="Examples in each prompt of a task (evaluation.fewshot).")]
Server = Annotated[
    str | None,
    typer.Option(metavar="URL", help="Running `rlkit serve` that answers the tasks (evaluation.server)."),
]


def evaluate(
    inputs: Inputs = None,
    model: Models = None,
    checkpoints: Checkpoints = None,
    prompts: PromptFiles = None,
    reward: SourceRewards = None,
    output: ResultFile = None,
    folder: Folder = None,
    engine: Engine = None,
    samples: Samples = None,
    temperature: Temperature = None,
    max_tokens: MaxTokens = None,
    limit: Limit = None,
    cluster: Cluster = None,
    confidence: Confidence = None,
    tasks: Tasks = None,
    include_path: IncludePath = None,
    fewshot: Fewshot = None,
    server: Server = None,
    seed: Seed = None,
    device: Device = None,
    assignments: Assignments = None,
    dry_run: DryRun = False,
    as_json: AsJson = False,
) -> None:
    """Score completions, models or checkpoints, with intervals and paired comparisons."""
    files = [text for text in inputs or () if text.endswith(PROJECT_FILE_ENDINGS)]
    completions = [text for text in inputs or () if text not in files]
    if len(files) > 1:
        raise ConfigError(f"{len(files)} project files are given ({', '.join(files)}); give one")
    everywhere, by_source = split_rewards(reward or ())
    flags = [
        Flag("evaluation.completions", "COMPLETIONS", completions or None),
        Flag("evaluation.models", "--model", model),
        Flag("evaluation.checkpoints", "--checkpoints", checkpoints),
        Flag("generation.prompts", "--prompts", prompts),
        Flag("reward.functions", "--reward", everywhere or None),
        Flag("evaluation.rewards", "--reward", by_source or None),
        Flag("evaluation.output", "--output", output),
        Flag("evaluation.folder", "--folder", folder),
        Flag("generation.engine", "--engine", engine),
        Flag("generation.samples_per_prompt", "--samples", samples),
        Flag("generation.temperature", "--temperature", temperature),
        Flag("generation.max_response_tokens", "--max-tokens", max_tokens),
        Flag("evaluation.task_limit" if tasks else "generation.limit", "--limit", limit),
        Flag("evaluation.cluster", "--cluster", cluster),
        Flag("evaluation.confidence", "--confidence", confidence),
        Flag("evaluation.tasks", "--tasks", tasks.split(",") if tasks else None),
        Flag("evaluation.include_path", "--include-path", include_path),
        Flag("evaluation.fewshot", "--fewshot", fewshot),
        Flag("evaluation.server", "--server", server),
        Flag("run.seed", "--seed", seed),
        Flag("run.device", "--device", device),
    ]
    resolved = resolve("eval", Path(files[0]) if files else None, assignments, flags)
    if dry_run:
        return show_plan(resolved, as_json=as_json)
    if resolved.config.asks_models:
        choose_output(as_json=as_json)
    from rlkit.pipelines.evaluate import run_evaluate

    run_evaluate(resolved, as_json=as_json)
    return None


def split_rewards(given: Sequence[str]) -> tuple[list[str], dict[str, list[str]]]:
    """`--reward NAME` is for every data source, `--reward SOURCE=NAME` for one."""
    everywhere: list[str] = []
    by_source: dict[str, list[str]] = {}
    for text in given:
        source, equals, name = text.partition("=")
        if not equals:
            everywhere.append(text)
        elif not source or not name:
            raise ConfigError(f"--reward {text}: give a reward function, or SOURCE=FUNCTION")
        else:
            by_source.setdefault(source, []).append(name)
    return everywhere, by_source
