"""What the checkpoint of a training run holds: all that the next step depends on, besides the config.

    state/<model>/        weights, optimizer and schedule, as the backend writes them
    state/trainer.json    counters, adaptive KL, reward moments, policy version, validation record; the data cursor
    state/random.json     every random generator of the process
    model/                the same weights as Hugging Face opens them; adapter/ with LoRA
    best.json             only while the step is the best one so far

No rollouts: each step uses up those that it made.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from rlkit.config.sections import LoraSection
from rlkit.data.order import EpochOrder
from rlkit.errors import CheckpointError
from rlkit.pipelines.adapters import write_adapter
from rlkit.pipelines.best_model import Record, best_note
from rlkit.pipelines.model_export import ModelExport
from rlkit.pipelines.starting_point import StartingPoint
from rlkit.protocols import PendingSave
from rlkit.tracking.random_state import random_state, restore_random_state
from rlkit.trainers.run_events import RunEvents

if TYPE_CHECKING:
    from torch import Tensor


class SavedModel(Protocol):
    """What all models that change during a run have in common."""

    def begin_save(self, folder: Path) -> PendingSave: ...

    def load(self, folder: Path) -> None: ...


class ExportedModel(Protocol):
    """The model that the run is about."""

    def export_weights(self) -> Iterator[tuple[str, Tensor]]: ...

    def save_adapter(self, folder: Path) -> None: ...


class LoopState(Protocol):
    """`SFTState` or `PPOState`."""

    step: int

    @property
    def validation(self) -> Record: ...

    def as_json(self) -> dict[str, Any]: ...

    def restore(self, content: Mapping[str, Any]) -> None: ...


@dataclass(frozen=True)
class CheckpointContent:
    """models: those that change during the run, by the names that they have in a checkpoint."""

    models: Mapping[str, SavedModel]
    state: LoopState
    order: EpochOrder
    policy: ExportedModel
    export: ModelExport
    lora: LoraSection

    def stage(self, folder: Path) -> Callable[[], None]:
        """A `rlkit.tracking.checkpoint_writer.Stage`."""
        state = folder / "state"
        for name in self.models:
            (state / name).mkdir(parents=True)
        write_adapter(self.policy, self.lora, folder / "adapter")
        write_export = self.export.stage(self.policy.export_weights(), folder / "model")
        trainer = {"state": self.state.as_json(), "order": self.order.state()}
        texts = {
            "state/trainer.json": json.dumps(trainer),
            "state/random.json": random_state(),
            **best_note(self.state.validation, step=self.state.step),
        }
        # Last, since they write from here on: whatever fails before leaves nobody behind who still fills the folder.
        saves = [model.begin_save(state / name) for name, model in self.models.items()]

        def write() -> None:
            _wait_for_all(saves)
            for name, text in texts.items():
                (folder / name).write_text(text, encoding="utf-8")
            write_export()

        return write

    def restore(self, checkpoint: Path) -> None:
        """Undo `stage`, but for the random generators.

        Raises `CheckpointError` for a checkpoint of a run with other models or other data.
        """
        state = checkpoint / "state"
        for name in self.models:
            if not (state / name).is_dir():
                raise CheckpointError(
                    f"checkpoint {checkpoint} has no {name}: the run began without one; go on with the settings that it "
                    "began with, or choose another --name"
                )
        try:
            content = json.loads((state / "trainer.json").read_text(encoding="utf-8"))
            self.state.restore(content["state"])
            self.order.restore(content["order"])
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise CheckpointError(
                f"checkpoint {checkpoint} is of another version of rlkit ({type(error).__name__}: {error}); finish the run "
                "with that version, or choose another --name"
            ) from error
        for name, model in self.models.items():
            model.load(state / name)

    def restore_random_state(self, checkpoint: Path) -> None:
        """The last thing before the next step: building models and engines draws random numbers too."""
        restore_random_state(checkpoint / "state" / "random.json")


def _wait_for_all(saves: Sequence[PendingSave]) -> None:
    """Raises what the first failed one raised, once none is under way any more."""
    errors: list[Exception] = []
    for save in saves:
        try:
            save.wait()
        except Exception as error:
            errors.append(error)
    if errors:
        raise errors[0]


def go_on_from(start: StartingPoint, content: CheckpointContent, events: RunEvents) -> None:
    """What is left to do when everything is assembled: say where the run goes on, and draw the same random numbers."""
    if start.checkpoint is not None:
        events.resumed_from(start.step, start.checkpoint)
        content.restore_random_state(start.checkpoint)
