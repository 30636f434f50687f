"""`rlkit generate`: a file of prompts to a file of completions."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from rlkit.cluster.environment import set_environment_guards
from rlkit.config.runs import GenerateConfig
from rlkit.config.sections import GenerationSection
from rlkit.errors import RunInterruptedError
from rlkit.generation.batch import BatchGeneration, answered_rows, drop_failed_rows, remaining_batches
from rlkit.generation.origin import check_origin, only_writer, weights_fingerprint
from rlkit.pipelines.assembly import LocatedModel, build_engine, load_prompt_batch, locate, prepare_process
from rlkit.pipelines.batch_limits import check_context
from rlkit.pipelines.replica_settings import check_replicas, generation_replicas
from rlkit.plugin.hooks import HookRelay
from rlkit.plugin.hookspecs import RunInfo, RunStatus
from rlkit.protocols import RolloutEngine
from rlkit.rollout.answered import AnswersBatches, InProcessAnswers
from rlkit.tracking.output_file import check_writable
from rlkit.trainers.stop_signal import graceful_stop
from rlkit.types import PromptBatch, SamplingParams

if TYPE_CHECKING:
    from rlkit.config.load import Resolved


def run_generate(resolved: Resolved) -> Path:
    """Answer what is not answered yet and return the completions file."""
    config = resolved.config
    assert isinstance(config, GenerateConfig)
    section = config.generation
    set_environment_guards()
    replicas = generation_replicas(section)
    if replicas is not None:
        check_replicas(replicas, config.run.device)
    # With replicas this process computes nothing and needs no device of its own.
    device = prepare_process(config.run) if replicas is None else config.run.device
    located = locate(config.model)
    check_context(
        section.max_prompt_tokens,
        section.max_response_tokens,
        located.context_length,
        keys=("generation.max_prompt_tokens", "generation.max_response_tokens"),
    )
    prompts = load_prompt_batch(section, section.prompts, located, name="generation")
    output = Path(section.output)
    check_writable(output, remedy="choose another --output")
    check_origin(output, origin_of(config, located))
    with only_writer(output):
        return answer_prompts(config, located, prompts, output, device)


def answer_prompts(
    config: GenerateConfig, located: LocatedModel, prompts: PromptBatch, output: Path, device: str
) -> Path:
    """What `output` lacks of the answers to `prompts`. device: of this process, or what replicas look for."""
    section = config.generation
    before = answered_rows(output, prompts)
    if before.failed and section.retry_failed:
        drop_failed_rows(output)
    passed = before.answered if section.retry_failed else before.answered | before.failed
    batches = remaining_batches(prompts, passed, section.batch_prompts)
    if not batches:
        print(f"{output} is complete: {_told(len(prompts), len(before.failed))}", file=sys.stderr)
        return output
    engine, answers, engine_metrics = build_answers(config, located, device)
    generation = BatchGeneration(
        answers,
        located.tokenizer,
        sampling_of(section, config.run.seed),
        output,
        config.model.path,
        section.log_probs,
        keep_going=section.on_error == "record",
        engine_metrics=engine_metrics,
    )
    # No run folder: what a generation leaves behind is its completions file, so only the console listens.
    hooks = HookRelay.for_run(config.run.hooks, skip=("jsonl",))
    run = RunInfo(
        kind="generate",
        name=output.name,
        folder=output.parent,
        config=config.model_dump(mode="json"),
        total_steps=len(batches),
        first_step=0,
    )
    status: RunStatus = "failed"
    hooks.run_started(run=run)
    try:
        with graceful_stop() as stop:
            done = generation.run(batches, run=run, hooks=hooks, stop=stop)
            status = "interrupted" if stop.requested else "finished"
    finally:
        hooks.run_finished(run=run, status=status)
        engine.close()
    if status == "interrupted":
        raise RunInterruptedError(f"stopped; {output} holds what is done: run the same command again to go on")
    failed = done.failed + len(before.failed & passed)
    print(f"{output}: {_told(len(prompts), failed)}, {len(before.answered)} of them before", file=sys.stderr)
    return output


def build_answers(
    config: GenerateConfig, located: LocatedModel, device: str
) -> tuple[RolloutEngine, AnswersBatches, Callable[[], Mapping[str, float]]]:
    """The engine, in this process or as replicas, how it answers batches, and what it says of itself."""
    section, replicas = config.generation, generation_replicas(config.generation)
    if replicas is None:
        engine = build_engine(section, config.model, config.run, located, device, name="generation")
        return engine, InProcessAnswers(engine), dict
    from rlkit.pipelines.replicas import build_replicated_engine

    replicated = build_replicated_engine(
        replicas, config.cluster, config.model, config.run,
        folder=located.folder, family=located.plugin.name, device=device,
    )  # fmt: skip
    return replicated, replicated.answer_batches, replicated.metrics


def _told(prompts: int, failed: int) -> str:
    if not failed:
        return f"{prompts} prompts answered"
    return f"{prompts - failed} of {prompts} prompts answered, {failed} failed (--retry-failed tries them again)"


ANSWER_SETTINGS = (
    "prompts", "engine", "samples_per_prompt", "max_response_tokens", "temperature", "top_p", "top_k", "min_p", "stop",
    "prompt_key", "system_prompt",
)  # fmt: skip
"""Generation settings that decide what an answer is; the others may change when a file is continued."""


def origin_of(config: GenerateConfig, located: LocatedModel) -> dict[str, object]:
    """What the answers depend on, for `check_origin`."""
    return {
        "model.path": config.model.path,
        "weights": weights_fingerprint(located.folder),
        "run.seed": config.run.seed,
        **{f"generation.{name}": getattr(config.generation, name) for name in ANSWER_SETTINGS},
    }


def sampling_of(section: GenerationSection, seed: int) -> SamplingParams:
    return SamplingParams(
        max_tokens=section.max_response_tokens,
        temperature=section.temperature,
        top_p=section.top_p,
        top_k=section.top_k,
        min_p=section.min_p,
        samples=section.samples_per_prompt,
        seed=seed,
        stop=section.stop,
    )
