"""What several pipelines build the same way: device, seeds, model, tokenizer, roles."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from rlkit.cluster.garbage import collect_as_usual
from rlkit.config.generation_section import GenerationSection
from rlkit.config.ppo_sections import RolloutSection
from rlkit.config.sections import (
    LoraSection,
    ModelSection,
    OptimizedSection,
    ProcessSection,
    PromptDataSection,
    RunSection,
)
from rlkit.config.serve_section import ServeSection
from rlkit.data.chat import encode_prompts
from rlkit.data.prompts import load_prompts
from rlkit.data.rendering import Tools
from rlkit.errors import ConfigError, DataError
from rlkit.models.export import copy_companions
from rlkit.models.image_text import takes_images
from rlkit.models.locate import base_and_adapter, locate_model, locate_tokenizer
from rlkit.models.registry import choose_family, find_family
from rlkit.models.shape import read_shape
from rlkit.models.tokenizer import load_tokenizer
from rlkit.plugin import PluginKind
from rlkit.plugin.loader import LoadedPlugin, build_plugin, load_plugin
from rlkit.protocols import ModelFamily, ModelRole, RolloutEngine
from rlkit.protocols.actor import LoraSettings, OptimizerSettings
from rlkit.rollout.engine_model import EngineModel
from rlkit.tracking.random_state import seed_generators
from rlkit.tracking.run_folder import LOGGER
from rlkit.types import Prompt, PromptBatch


@dataclass(frozen=True)
class LocatedModel:
    """A model that is there, with its family and tokenizer, but not in memory; `adapter`: peft's folder of one on it."""

    folder: Path
    plugin: LoadedPlugin
    family: ModelFamily
    tokenizer: Any
    context_length: int
    adapter: Path | None = None


def prepare_process(run: ProcessSection) -> str:
    """Threads and seeds; returns the device that `run.device` means here."""
    if run.threads:
        torch.set_num_threads(run.threads)
    seed_generators(run.seed)
    cuda = torch.cuda.is_available()
    if run.device == "auto":
        return "cuda:0" if cuda else "cpu"
    if run.device.startswith("cuda") and not cuda:
        raise ConfigError(f"run.device = {run.device}, but torch sees no CUDA device; use auto or cpu")
    return run.device


def locate(section: ModelSection, *, with_adapter: bool = False) -> LocatedModel:
    """Find the model's folder, family and tokenizer; `with_adapter` allows an adapter's folder as `model.path`."""
    trust = section.trust_remote_code
    path, adapter = base_and_adapter(section.path) if with_adapter else (section.path, None)
    folder = locate_model(path, trust_remote_code=trust)
    plugin = load_plugin(PluginKind.MODEL_FAMILY, choose_family(folder, family=section.family))
    family = find_family(folder, family=section.family)
    tokenizer = load_tokenizer(
        locate_tokenizer(section.tokenizer, trust_remote_code=trust) if section.tokenizer else folder,
        chat_template=section.chat_template,
        trust_remote_code=section.trust_remote_code,
    )
    shape = read_shape(folder)
    if len(tokenizer) > shape.vocab_size:
        raise ConfigError(
            f"the tokenizer has {len(tokenizer)} tokens, but the model in {folder} has a vocabulary of "
            f"{shape.vocab_size}; check model.tokenizer"
        )
    collect_as_usual()  # torch and transformers are there by now
    return LocatedModel(folder, plugin, family, tokenizer, shape.context_length, adapter)


def model_role(
    section: ModelSection,
    located: LocatedModel,
    run: RunSection,
    device: str,
    optimized: OptimizedSection,
    *,
    path: str = "",
    total_steps: int | None,
) -> ModelRole:
    """The role of a model of the run; `total_steps` None makes it frozen."""
    folder = locate_model(path) if path else located.folder
    family = find_family(folder, family=section.family) if path else located.family
    return ModelRole(
        path=folder,
        family=family,
        dtype=section.dtype,
        device=device,
        micro_batch_tokens=optimized.micro_batch_tokens,
        gradient_checkpointing=optimized.gradient_checkpointing,
        trust_remote_code=section.trust_remote_code,
        seed=run.seed,
        optimizer=None if total_steps is None else optimizer_settings(optimized, total_steps),
        lora=None if total_steps is None else lora_settings(optimized.lora),
    )


def lora_settings(section: LoraSection) -> LoraSettings | None:
    return LoraSettings(section.rank, section.alpha, section.targets) if section.rank else None


def optimizer_settings(section: OptimizedSection, total_steps: int) -> OptimizerSettings:
    return OptimizerSettings(
        lr=section.lr,
        weight_decay=section.weight_decay,
        betas=section.betas,
        eps=section.eps,
        max_grad_norm=section.max_grad_norm,
        schedule=section.schedule,
        warmup_steps=section.warmup_steps,
        total_steps=total_steps,
        min_lr_ratio=section.min_lr_ratio,
    )


def load_prompt_batch(
    section: PromptDataSection | GenerationSection,
    paths: Sequence[str],
    located: LocatedModel,
    *,
    name: str,
    tools: Tools = (),
    text_only: str = "",
) -> PromptBatch:
    """Prompts of `paths` as token ids; dropped ones are reported. `name` is the section's, for messages.

    text_only: what takes no images, for the refusal of prompts that have some; empty: the model decides. tools: schemas that the chat template shows with every prompt that has none of its own.
    """
    prompts = load_prompts(
        paths,
        prompt_key=section.prompt_key,
        reference_key=section.reference_key,
        system_prompt=section.system_prompt,
        limit=section.limit,
    )
    check_images(prompts, text_only or ("" if takes_images(located.folder) else f"the model in {located.folder}"))
    encoded = encode_prompts(
        prompts,
        located.tokenizer,
        max_tokens=section.max_prompt_tokens,
        overlong=section.overlong_prompts,
        section=name,
        tools=tools,
    )
    if encoded.dropped:
        LOGGER.warning("%d of %d prompts are too long and were dropped", encoded.dropped, len(prompts))
    return encoded.batch


def check_images(prompts: Sequence[Prompt], text_only: str) -> None:
    """Raises `DataError` for the first prompt with images where `text_only`, if not empty, says what takes none."""
    for prompt in prompts if text_only else ():
        if prompt.images:
            raise DataError(
                f"prompt {prompt.row_id} (rows counted from 0) has images, and {text_only} takes text only; leave such rows "
                "out (docs/engines.md says what takes images)"
            )


def build_engine(
    section: RolloutSection | GenerationSection | ServeSection,
    model: ModelSection,
    run: ProcessSection,
    located: LocatedModel,
    device: str,
    *,
    name: str,
    lora_rank: int = 0,
) -> RolloutEngine:
    """The engine that `section` names, holding the model; `name` is the section's, for messages.

    lora_rank: largest rank of the adapters that it may be sent.
    """
    engine: RolloutEngine = build_plugin(
        PluginKind.ROLLOUT_ENGINE,
        section.engine,
        section.options,
        where=f"{name}.options",
        model=engine_model(model, run, located, device, lora_rank=lora_rank),
    )
    return engine


def engine_model(
    model: ModelSection, run: ProcessSection, located: LocatedModel, device: str, *, lora_rank: int = 0
) -> EngineModel:
    """What an engine is told of the model."""
    return EngineModel(
        folder=located.folder,
        family=located.family,
        tokenizer=located.tokenizer,
        dtype=model.dtype,
        device=device,
        trust_remote_code=model.trust_remote_code,
        seed=run.seed,
        lora_rank=lora_rank,
    )


def write_model(located: LocatedModel, named_tensors: Any, target: Path) -> None:
    """An HF-loadable folder with tokenizer, moved into place whole."""
    with new_folder(target) as aside:
        fill_model(located, named_tensors, aside)


@contextmanager
def new_folder(target: Path) -> Iterator[Path]:
    """An empty folder that replaces `target` once it is filled."""
    aside = target.with_name(f".{target.name}.partial")
    shutil.rmtree(aside, ignore_errors=True)
    aside.mkdir(parents=True)
    try:
        yield aside
    except BaseException:
        shutil.rmtree(aside, ignore_errors=True)
        raise
    shutil.rmtree(target, ignore_errors=True)
    aside.rename(target)


def fill_model(located: LocatedModel, named_tensors: Any, folder: Path) -> None:
    """Weights, config, tokenizer and generation config into an existing folder."""
    from transformers import AutoConfig

    located.family.save(named_tensors, AutoConfig.from_pretrained(located.folder), folder)
    located.tokenizer.save_pretrained(folder)
    copy_companions(located.folder, folder)
