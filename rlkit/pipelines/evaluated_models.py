"""The answers of models that are evaluated.

The answers are made by the pipeline of `rlkit generate`, into a file of their own for each model and each way of asking:
the same evaluation goes on with it, another one begins another.
"""

from __future__ import annotations

import json
from pathlib import Path

from rlkit.config.generation_section import GenerationSection
from rlkit.config.runs import EvalConfig, GenerateConfig
from rlkit.config.sections import ModelSection
from rlkit.pipelines.assembly import locate
from rlkit.pipelines.evaluation_names import digest, file_name
from rlkit.pipelines.evaluation_settings import EvaluatedModel
from rlkit.pipelines.generate import generate_completions, origin_of


def completions_of(config: EvalConfig, model: EvaluatedModel, folder: Path) -> Path:
    """The model's answers to `generation.prompts`, in `folder`: what is there already is not made again.

    Raises `RunInterruptedError` after Ctrl-C, with what is done kept.
    """
    generation = generate_config(config, model, output="")
    located = locate(generation.model, with_adapter=True)
    origin = json.dumps(origin_of(generation, located), sort_keys=True, default=str)
    output = folder / f"{file_name(model.label)}-{digest(origin)}.jsonl"
    return generate_completions(generate_config(config, model, output=str(output)))


def generate_config(config: EvalConfig, model: EvaluatedModel, *, output: str) -> GenerateConfig:
    """What `rlkit generate` would be told."""
    settings = config.generation.model_dump() | {"output": output}
    return GenerateConfig(
        run=config.run,
        model=model_section(config, model),
        generation=GenerationSection.model_validate(settings),
        cluster=config.cluster,
    )


def model_section(config: EvalConfig, model: EvaluatedModel) -> ModelSection:
    return config.model.model_copy(update={"path": model.path})
