"""`rlkit generate`: a file of prompts to a file of completions."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from rlkit.cluster.environment import set_environment_guards
from rlkit.config.runs import GenerateConfig
from rlkit.errors import RunInterruptedError
from rlkit.generation.batch import BatchGeneration, answered_rows, drop_failed_rows, proven_prompt, remaining_batches
from rlkit.generation.origin import check_origin, only_writer, text_fingerprint, weights_fingerprint
from rlkit.pipelines.adapters import given_adapter, put_on
from rlkit.pipelines.assembly import LocatedModel, build_engine, load_prompt_batch, locate, prepare_process
from rlkit.pipelines.batch_limits import check_context
from rlkit.pipelines.conversations import build_collector, build_partners
from rlkit.pipelines.replica_settings import check_replicas, generation_replicas
from rlkit.pipelines.sampling import sampling_of
from rlkit.plugin import PluginKind
from rlkit.plugin.hooks import HookRelay
from rlkit.plugin.hookspecs import RunInfo, RunStatus
from rlkit.plugin.loader import load_spec
from rlkit.protocols import RolloutEngine
from rlkit.rollout.answered import AnswersBatches, BatchAfterBatch
from rlkit.rollout.collector import Collector, collect_rollouts
from rlkit.rollout.overlapping import OverlappingBatches
from rlkit.tracking.output_file import check_writable
from rlkit.trainers.stop_signal import graceful_stop
from rlkit.types import PromptBatch

if TYPE_CHECKING:
    from rlkit.config.load import Resolved


def run_generate(resolved: Resolved) -> Path:
    """Answer what is not answered yet and return the completions file."""
    assert isinstance(resolved.config, GenerateConfig)
    return generate_completions(resolved.config)


def generate_completions(config: GenerateConfig) -> Path:
    """As `run_generate`. Raises `RunInterruptedError` after Ctrl-C, with what is done kept."""
    section = config.generation
    set_environment_guards()
    replicas = generation_replicas(section)
    if replicas is not None:
        check_replicas(replicas, config.run.device)
    partners = build_partners(section, name="generation")
    # With replicas this process computes nothing and needs no device of its own.
    device = prepare_process(config.run) if replicas is None else config.run.device
    located = locate(config.model, with_adapter=True)
    check_context(
        section.max_prompt_tokens,
        section.max_response_tokens,
        located.context_length,
        keys=("generation.max_prompt_tokens", "generation.max_response_tokens"),
    )
    collector = build_collector(
        section,
        partners,
        located.tokenizer,
        max_prompt_tokens=section.max_prompt_tokens,
        context_length=located.context_length,
        prompt_key="generation.max_prompt_tokens",
    )
    tools = partners.toolbox.schemas if partners.toolbox is not None else ()
    engine_takes_images = load_spec(PluginKind.ROLLOUT_ENGINE, section.engine).takes_images
    text_only = "" if engine_takes_images else f"rollout engine {section.engine}"
    prompts = load_prompt_batch(section, section.prompts, located, name="generation", tools=tools, text_only=text_only)
    output = Path(section.output)
    check_writable(output, remedy="choose another --output")
    with only_writer(output):
        check_origin(output, origin_of(config, located))
        return answer_prompts(config, located, prompts, output, device, collector)


def answer_prompts(
    config: GenerateConfig,
    located: LocatedModel,
    prompts: PromptBatch,
    output: Path,
    device: str,
    collector: Collector = collect_rollouts,
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
    proven = proven_prompt(prompts, before)
    engine, answers, engine_metrics = build_answers(config, located, device, collector, proven)
    generation = BatchGeneration(
        answers,
        located.tokenizer,
        sampling_of(section, seed=config.run.seed),
        output,
        config.model.path,
        section.log_probs,
        keep_going=section.on_error == "record",
        engine_metrics=engine_metrics,
    )
    # No run folder: what a generation leaves behind is its completions file, so only the console listens.
    hooks = HookRelay.for_run(config.run.hooks, skip=("jsonl",), options=config.run.hook_options)
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
        with graceful_stop("when the batches in progress are answered and written") as stop:
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
    config: GenerateConfig, located: LocatedModel, device: str, collector: Collector, proven: PromptBatch | None = None
) -> tuple[RolloutEngine, AnswersBatches, Callable[[], Mapping[str, float]]]:
    """The engine, in this process or as replicas, how it answers batches, and what it says of itself.

    proven: a prompt that was answered by an earlier run, which tells a broken engine from bad prompts.
    """
    section, replicas = config.generation, generation_replicas(config.generation)
    adapter = given_adapter(located)
    rank = 0 if adapter is None else adapter.rank
    if replicas is None:
        engine = build_engine(section, config.model, config.run, located, device, name="generation", lora_rank=rank)
        put_on(engine, adapter)
        if hasattr(engine, "submit") and not section.is_conversation:
            return engine, OverlappingBatches(engine, proven), dict
        return engine, BatchAfterBatch(engine, collector, proven), dict
    from rlkit.pipelines.replicas import build_replicated_engine

    replicated = build_replicated_engine(
        replicas, config.cluster, config.model, config.run,
        folder=located.folder, family=located.plugin.name, device=device, lora_rank=rank,
    )  # fmt: skip
    put_on(replicated, adapter)
    # The turns of conversations follow each other, so a batch of them keeps its replicas until it is done.
    answers = BatchAfterBatch(replicated, collector, proven) if section.is_conversation else replicated.answer_batches
    return replicated, answers, replicated.metrics


def _told(prompts: int, failed: int) -> str:
    if not failed:
        return f"{prompts} prompts answered"
    return f"{prompts - failed} of {prompts} prompts answered, {failed} failed (--retry-failed tries them again)"


ANSWER_SETTINGS = (
    "prompts", "engine", "samples_per_prompt", "max_response_tokens", "temperature", "top_p", "top_k", "min_p",
    "repetition_penalty", "stop", "stop_token_ids", "prompt_key", "system_prompt",
)  # fmt: skip
"""Generation settings that decide what an answer is; the others may change when a file is continued."""

CONVERSATION_SETTINGS = (
    "tools", "tool_format", "max_tool_tokens", "environment", "environment_options", "max_turns", "max_turn_tokens",
)  # fmt: skip
"""Those that decide, too, when an answer is a conversation."""


def origin_of(config: GenerateConfig, located: LocatedModel) -> dict[str, object]:
    """What the answers depend on, for `check_origin`."""
    section = config.generation
    names = ANSWER_SETTINGS + (CONVERSATION_SETTINGS if section.is_conversation else ())
    return {
        "model.path": config.model.path,
        "weights": weights_fingerprint(located.folder),
        "model.tokenizer": config.model.tokenizer,
        "model.chat_template": text_fingerprint(str(located.tokenizer.chat_template or "")),
        "model.dtype": config.model.dtype,
        **({} if located.adapter is None else {"adapter": weights_fingerprint(located.adapter)}),
        "run.seed": config.run.seed,
        **{f"generation.{name}": getattr(section, name) for name in names},
        # The only option of an engine that is known to decide answers; others say how much is done at once.
        "generation.options.dtype": str(section.options.get("dtype", "model")),
    }
