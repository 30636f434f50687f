"""`rlkit sft`: conversations to a fine-tuned model."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import TYPE_CHECKING

from rlkit.cluster.environment import set_environment_guards
from rlkit.config.runs import SFTConfig
from rlkit.data.conversations import load_conversations
from rlkit.data.order import EpochOrder
from rlkit.data.supervised import encode_conversations
from rlkit.pipelines.adapters import write_adapter
from rlkit.pipelines.assembly import LocatedModel, fill_model, locate, model_role, prepare_process, write_model
from rlkit.pipelines.run_session import run_session
from rlkit.pipelines.starting_point import already_finished, starting_point
from rlkit.pipelines.work_meter import build_sft_meter
from rlkit.plugin import PluginKind
from rlkit.plugin.loader import build_plugin, load_plugin
from rlkit.protocols import ActorBackend, SupervisedTrainee
from rlkit.tracking.checkpoints import CheckpointStore
from rlkit.tracking.run_folder import LOGGER, RunFolder
from rlkit.trainers.run_events import RunEvents
from rlkit.trainers.sft import SFTParts, SFTSettings, SFTState, SFTTrainer
from rlkit.types import SupervisedBatch

if TYPE_CHECKING:
    from rlkit.config.load import Resolved


def run_sft(resolved: Resolved) -> Path:
    """Run to the end and return the folder of the finished model."""
    config = resolved.config
    assert isinstance(config, SFTConfig)
    set_environment_guards()
    backend = load_plugin(PluginKind.ACTOR_BACKEND, config.sft.backend)
    device = prepare_process(config.run)
    located = locate(config.model)
    data, validation = load_data(config, located)
    order = EpochOrder(len(data), seed=config.run.seed, shuffle=config.data.shuffle)
    steps = config.sft.steps or math.ceil(config.sft.epochs * len(data) / config.sft.batch_size)

    folder = RunFolder.open("sft", config.run.output, config.run.name_or("sft"), resume=config.run.resume)
    store = CheckpointStore(folder.checkpoints, config.trainer.keep_checkpoints)
    start = starting_point(folder, store, config)
    if already_finished(folder, start, steps):
        return folder.model

    role = model_role(config.model, located, config.run, device, config.sft, total_steps=steps)
    backend_object: ActorBackend = build_plugin(
        PluginKind.ACTOR_BACKEND, config.sft.backend, config.sft.options, where="sft.options"
    )
    trainee = backend_object.build_supervised(role)
    state = SFTState()
    if start.checkpoint is not None:
        restore(start.checkpoint, trainee, state, order)

    def fill_checkpoint(target: Path) -> None:
        save(target, trainee, state, order)
        (target / "model").mkdir()
        fill_model(located, trainee.export_weights(), target / "model")
        write_adapter(trainee, config.sft.lora, target / "adapter")

    with run_session(
        "sft", resolved, folder, total_steps=steps, first_step=state.step, plugins=[backend, located.plugin]
    ) as session:
        events = RunEvents(session.info, session.hooks, store, fill_checkpoint)
        settings = SFTSettings(
            steps=steps,
            batch_size=config.sft.batch_size,
            validate_every=config.trainer.validate_every,
            checkpoint_every=config.trainer.checkpoint_every,
        )
        parts = SFTParts(trainee, data, order, validation, build_sft_meter(config, located.folder, device))
        SFTTrainer(settings, parts, events, state).fit(session.stop)
        write_model(located, trainee.export_weights(), folder.model)
        write_adapter(trainee, config.sft.lora, folder.adapter)
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


def save(folder: Path, trainee: SupervisedTrainee, state: SFTState, order: EpochOrder) -> None:
    target = folder / "state" / "model"
    target.mkdir(parents=True)
    trainee.save(target)
    content = {"step": state.step, "order": order.state()}
    (folder / "state" / "trainer.json").write_text(json.dumps(content))


def restore(checkpoint: Path, trainee: SupervisedTrainee, state: SFTState, order: EpochOrder) -> None:
    content = json.loads((checkpoint / "state" / "trainer.json").read_text())
    trainee.load(checkpoint / "state" / "model")
    state.step = content["step"]
    order.restore(content["order"])
