"""`rlkit eval --tasks`: tasks of lm-evaluation-harness on models here, or behind a server."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rlkit.config.runs import EvalConfig
from rlkit.errors import ConfigError, DataError
from rlkit.evaluation.compare import Comparison, compare_files
from rlkit.evaluation.evaluate import EvaluationResult, FileResult
from rlkit.evaluation.harness.records import harness_numbers, scored_tasks
from rlkit.evaluation.harness.run import TaskSettings, run_tasks
from rlkit.evaluation.statistics import IntervalSettings
from rlkit.evaluation.summary import macro_mean, summarise
from rlkit.evaluation.warnings import warnings_of
from rlkit.generation.origin import weights_fingerprint
from rlkit.pipelines.assembly import LocatedModel, build_engine, engine_model, locate, prepare_process
from rlkit.pipelines.evaluated_models import generate_config, model_section
from rlkit.pipelines.evaluation_names import digest, file_name
from rlkit.pipelines.evaluation_settings import EvaluatedModel, evaluated_models
from rlkit.pipelines.server_settings import read_key
from rlkit.plugin.loader import find_plugin
from rlkit.plugin.spec import PluginKind


def evaluate_tasks(config: EvalConfig, folder: Path, settings: IntervalSettings, *, quiet: bool) -> EvaluationResult:
    """Every task on every model, each model compared with the first."""
    section = config.evaluation
    files: list[FileResult] = []
    if section.server:
        results = _on_server(config)
        files.append(_file_result(results, section.server, settings))
    else:
        for model in evaluated_models(config):
            if not quiet:
                print(f"running {', '.join(section.tasks)} on {model.label}", file=sys.stderr)
            files.append(_file_result(_on_model(config, model, folder), model.label, settings))
    with_rows = [file for file in files if file.scored.rows]
    comparisons: tuple[Comparison, ...] = ()
    impossible: list[str] = []
    try:
        comparisons = compare_files([file.scored for file in with_rows], settings)
    except DataError as error:  # the numbers of each model stay true, and may have taken hours
        impossible.append(f"not compared: {error}")
    return EvaluationResult(
        functions=("lm-evaluation-harness",),
        confidence=settings.confidence,
        files=tuple(files),
        comparisons=comparisons,
        warnings=(*warnings_of([(file.scored, file.overall) for file in with_rows], comparisons), *impossible),
        functions_by_source={},
        cluster="",
    )


def task_settings(config: EvalConfig) -> TaskSettings:
    section = config.evaluation
    return TaskSettings(
        tasks=section.tasks,
        include_path=section.include_path,
        fewshot=None if section.fewshot < 0 else section.fewshot,
        limit=section.task_limit or None,
        chat=section.chat,
        seed=config.run.seed,
    )


def _file_result(results: Any, label: str, settings: IntervalSettings) -> FileResult:
    scored = scored_tasks(results, label=label)
    summaries = summarise(scored.rows, settings) if scored.rows else ()
    macro = macro_mean(summaries, settings) if summaries else None
    return FileResult(scored, summaries, macro, tuple(harness_numbers(results)))


def _on_model(config: EvalConfig, model: EvaluatedModel, folder: Path) -> Any:
    """Answers that are kept in `folder` are not made again, and nothing is loaded where all of them are."""
    section = model_section(config, model)
    device = prepare_process(config.run)
    located = locate(section, with_adapter=True)
    if located.adapter is not None:
        raise ConfigError(
            f"{model.path} is an adapter; tasks take a whole model, such as the merged model/ that a run leaves beside it"
        )
    kept = folder / f"{file_name(model.label)}-{digest(_origin(config, located))}.harness"
    with _engine_lm(config, model, located, device) as lm:
        return run_tasks(lm, task_settings(config), cache=kept)


@contextmanager
def _engine_lm(config: EvalConfig, model: EvaluatedModel, located: LocatedModel, device: str) -> Iterator[Any]:
    from rlkit.evaluation.harness.model import EngineLM

    generate = generate_config(config, model, output="")

    def load_engine() -> Any:
        return build_engine(generate.generation, generate.model, config.run, located, device, name="generation")

    lm = EngineLM(
        located.tokenizer,
        name=model.label,
        context_length=located.context_length,
        device=device,
        seed=config.run.seed,
        load_model=lambda: load_causal_model(config, model, located, device),
        load_engine=load_engine,
    )
    try:
        yield lm
    finally:
        lm.close()


def load_causal_model(config: EvalConfig, model: EvaluatedModel, located: LocatedModel, device: str) -> Any:
    """The model, in evaluation mode, for likelihoods."""
    import torch

    source = engine_model(model_section(config, model), config.run, located, device)
    module = source.family.build(
        source.folder,
        head="causal_lm",
        dtype=getattr(torch, source.dtype),
        device=device,
        trust_remote_code=source.trust_remote_code,
    )
    source.family.load_weights(module, source.folder)
    module.requires_grad_(False)
    return module.eval()


def _on_server(config: EvalConfig) -> Any:
    """The server's weights may change behind its address, so nothing is kept from one run to the next."""
    from rlkit.evaluation.harness.server import ServerLM

    section = config.evaluation
    name = config.models[0] if config.models else ""
    key = read_key(section.server_key_env, "evaluation.server_key_env")
    return run_tasks(ServerLM(section.server, model=name, api_key=key, seed=config.run.seed), task_settings(config))


def _origin(config: EvalConfig, located: LocatedModel) -> str:
    """What likelihoods and answers depend on, but for the prompts, which the harness's own keys hold."""
    section = config.generation
    engine = find_plugin(PluginKind.ROLLOUT_ENGINE, section.engine)
    return json.dumps(
        [
            weights_fingerprint(located.folder),
            str(located.folder),
            [config.model.family, config.model.tokenizer, config.model.dtype],
            [section.engine, engine.distribution, engine.version, section.options],
            config.run.seed,
        ],
        default=str,
    )
