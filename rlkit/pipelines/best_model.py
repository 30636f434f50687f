"""The best validated model of a training run: what its checkpoint says of it, and whether it is the one that is exported."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path

from rlkit.config.runs import PPOConfig
from rlkit.errors import CheckpointError
from rlkit.pipelines.adapters import copy_adapter
from rlkit.pipelines.assembly import new_folder
from rlkit.tracking.checkpoints import CheckpointStore, verify_checkpoint
from rlkit.tracking.loss_record import LossRecord
from rlkit.tracking.run_folder import LOGGER, NOTICE, RunFolder
from rlkit.tracking.validation_record import ValidationRecord
from rlkit.types import PromptBatch, SupervisedBatch

Record = ValidationRecord | LossRecord
BEST_FILE = "best.json"


def validation_subject(config: PPOConfig, prompts: PromptBatch) -> str:
    """A fingerprint of everything in a project that decides what a validation score means; code of rewards aside."""
    sections = [config.validation.model_dump(mode="json"), config.reward.model_dump(mode="json")]
    limit = config.validation.max_response_tokens or config.rollout.max_response_tokens
    asked = [
        (ids, str(prompt.reference), prompt.data_source)
        for ids, prompt in zip(prompts.token_ids, prompts.prompts, strict=True)
    ]
    ends = [config.rollout.stop, config.rollout.stop_token_ids]
    return hashlib.sha256(json.dumps([sections, limit, ends, asked]).encode()).hexdigest()


def loss_subject(batch: SupervisedBatch) -> str:
    """A fingerprint of the tokens that a validation loss is measured on."""
    parts = (batch.token_ids.values, batch.token_ids.lengths, batch.loss_mask.values)
    return hashlib.sha256(b"".join(part.cpu().numpy().tobytes() for part in parts)).hexdigest()


def take_up_record(record: Record, subject: str, store: CheckpointStore, *, step: int, best_is_kept: bool) -> None:
    """Fit the record of a checkpoint (of `step`) to this run: other validation data start anew, a damaged best is forgotten.

    best_is_kept: the best step has a checkpoint (`trainer.keep_best`); else it is only a number, which nothing can damage.
    """
    if record.last is not None and record.subject != subject:
        LOGGER.warning(
            "the validation differs from that of the run so far: the best step is chosen among those from %d on",
            step + 1,
        )
        record.forget()
    record.subject = subject
    if record.best is None or record.best.step == step or not best_is_kept:
        return
    try:
        verify_checkpoint(store.path(record.best.step), step=record.best.step)
    except CheckpointError as error:
        LOGGER.warning("%s; the best step is chosen without it", error)
        record.drop_best(step)


def best_note(record: Record, *, step: int) -> dict[str, str]:
    """`best.json` for the checkpoint of `step`, if that is the best so far: its score, and how the others stand to it."""
    return {BEST_FILE: json.dumps(record.describe(), indent=1)} if record.best_step == step else {}


def tell_best(record: Record, folder: RunFolder) -> None:
    """Which step was best: one line in log and console, and `validation` in run.json."""
    if record.best is not None:
        folder.describe(validation=record.describe())
        LOGGER.log(NOTICE, record.sentence())


def export_best(record: Record, store: CheckpointStore, target: Path) -> bool:
    """Copy the best step's model, with its adapter if any, to `target` (and beside it), whole; False, with a warning, when there is none that is whole."""
    if record.best is None:
        LOGGER.warning("no validation of a trained model yet: the last step is exported")
        return False
    checkpoint = store.path(record.best.step)
    try:
        verify_checkpoint(checkpoint)
    except CheckpointError as error:
        LOGGER.warning("%s; the last step is exported instead", error)
        return False
    with new_folder(target) as aside:
        shutil.copytree(checkpoint / "model", aside, dirs_exist_ok=True)
    copy_adapter(checkpoint / "adapter", target.with_name("adapter"))
    LOGGER.info("exported the model of step %d", record.best.step)
    return True
