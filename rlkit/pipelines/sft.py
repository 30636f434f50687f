"""`rlkit sft`: conversations to a fine-tuned model."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING

from rlkit.cluster.environment import set_environment_guards
from rlkit.cluster.followers import is_follower
from rlkit.config.runs import SFTConfig
from rlkit.data.conversations import load_conversations
from rlkit.data.order import EpochOrder
from rlkit.data.supervised import encode_conversations
from rlkit.pipelines.adapters import write_adapter
from rlkit.pipelines.assembly import LocatedModel, locate, model_role, write_model
from rlkit.pipelines.best_model import export_best, loss_subject, take_up_record, tell_best
from rlkit.pipelines.checkpoint_content import CheckpointContent, go_on_from
from rlkit.pipelines.model_export import ModelExport
from rlkit.pipelines.restarts import run_with_restarts
from rlkit.pipelines.run_session import run_session
from rlkit.pipelines.starting_point import already_finished, starting_point
from rlkit.pipelines.training_place import TrainingPlace, follow_leader, prepare_driver
from rlkit.pipelines.work_meter import build_sft_meter
from rlkit.plugin import PluginKind
from rlkit.plugin.loader import load_plugin
from rlkit.tracking.checkpoint_writer import CheckpointWriter
from rlkit.tracking.checkpoints import CheckpointStore
from rlkit.tracking.run_folder import LOGGER, RunFolder
from rlkit.tracking.sole_process import RunLock
from rlkit.trainers.run_events import RunEvents
from rlkit.trainers.sft import SFTParts, SFTSettings, SFTState, SFTTrainer
from rlkit.types import SupervisedBatch

if TYPE_CHECKING:
    from rlkit.config.load import Resolved


def run_sft(resolved: Resolved) -> Path:
    """Run to the end and return the folder of the finished model; in torchrun's other processes, help with that."""
    set_environment_guards()
    if is_follower():
        follow_leader(resolved.config)
        return RunFolder(Path(resolved.config.run.output) / resolved.config.run.name_or("sft")).model
    return run_with_restarts(resolved, _run_once)


def _run_once(resolved: Resolved, lock: RunLock) -> Path:
    config = resolved.config
    assert isinstance(config, SFTConfig)
    device = prepare_driver(config)
    with TrainingPlace(config, device=device) as place:
        return _train(resolved, config, place, device, lock)


def _train(resolved: Resolved, config: SFTConfig, place: TrainingPlace, device: str, lock: RunLock) -> Path:
    backend = load_plugin(PluginKind.ACTOR_BACKEND, config.sft.backend)
    located = locate(config.model)
    data, validation = load_data(config, located)
    order = EpochOrder(len(data), seed=config.run.seed, shuffle=config.data.shuffle)
    steps = config.sft.steps or math.ceil(config.sft.epochs * len(data) / config.sft.batch_size)

    folder = RunFolder.open("sft", config.run.output, config.run.name_or("sft"), resume=config.run.resume)
    lock.take(folder.path)
    store = CheckpointStore(folder.checkpoints, config.trainer.keep_checkpoints, first=(folder.metrics,))
    start = starting_point(folder, store, config, must_resume=config.run.resume == "must")
    if already_finished(folder, start, steps):
        return folder.model

    role = model_role(config.model, located, config.run, device, config.sft, total_steps=steps)
    trainee = place.backend().build_supervised(role)
    state = SFTState()
    content = CheckpointContent({"model": trainee}, state, order, trainee, ModelExport(located), config.sft.lora)
    if start.checkpoint is not None:
        content.restore(start.checkpoint)
    if validation is not None:
        subject, kept = loss_subject(validation), config.trainer.keep_best
        take_up_record(state.validation, subject, store, step=state.step, best_is_kept=kept)

    with run_session(
        "sft", resolved, folder, total_steps=steps, first_step=state.step, plugins=[backend, located.plugin]
    ) as session:
        events = RunEvents(
            session.info,
            session.hooks,
            CheckpointWriter(store, content.stage, in_background=config.trainer.background_checkpoints),
            stop_on_checkpoint_error=config.trainer.on_checkpoint_error == "stop",
        )
        settings = SFTSettings(
            steps=steps,
            batch_size=config.sft.batch_size,
            validate_every=config.trainer.validate_every,
            checkpoint_every=config.trainer.checkpoint_every,
            keep_best=config.trainer.keep_best,
        )
        parts = SFTParts(trainee, data, order, validation, build_sft_meter(config, located.folder, place.peak()))
        go_on_from(start, content, events)
        with events.settling_checkpoints():
            SFTTrainer(settings, parts, events, state).fit(session.stop)
        tell_best(state.validation, folder)
        if config.trainer.export == "last" or not export_best(state.validation, store, folder.model):
            write_model(located, trainee.export_weights(), folder.model)
            write_adapter(trainee, config.sft.lora, folder.adapter)
        events.check_saved()
    return folder.model


def load_data(config: SFTConfig, located: LocatedModel) -> tuple[SupervisedBatch, SupervisedBatch | None]:
    """Training and validation conversations as token ids."""
    section = config.data

    def load(paths: tuple[str, ...]) -> SupervisedBatch:
        conversations = load_conversations(
            paths, format=section.format, system_prompt=section.system_prompt, limit=section.limit
        )
        encoded = encode_conversations(
            conversations,
            located.tokenizer,
            max_length=min(section.max_length, located.context_length),
            overlong=section.overlong,
        )
        if encoded.dropped:
            LOGGER.warning("%d of %d conversations are too long and were dropped", encoded.dropped, len(conversations))
        return encoded.batch

    return load(section.train), load(section.validation) if section.validation else None
