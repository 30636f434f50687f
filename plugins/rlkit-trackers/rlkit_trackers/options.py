"""What each tracker can be told, in `[run.hook_options.NAME]`."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from rlkit.config import OutputPath, PluginOptions
from rlkit.config.fields import NonNegativeInt, PositiveFloat, PositiveInt, Texts


class TrackerOptions(PluginOptions):
    """What every tracker has."""

    answers: NonNegativeInt = 8
    """Answers in each table of samples; 0 sends none."""
    answers_every: NonNegativeInt = 10
    """Training steps between tables of training answers; 0 sends those of validations only."""
    queue: PositiveInt = 1000
    """Events that may wait while the tracker is slow; what comes when so many wait is left out and counted."""
    flush_s: PositiveFloat = 30.0
    """Seconds that the end of a run waits for the tracker; what it has not taken by then is lost."""


class TensorBoardOptions(TrackerOptions):
    """`[run.hook_options.tensorboard]`"""

    folder: OutputPath = ""
    """Folder for the event files; empty means `tensorboard` in the run folder."""


class WandbOptions(TrackerOptions):
    """`[run.hook_options.wandb]`"""

    project: Annotated[str, Field(min_length=1)] = "rlkit"
    """Project that the run belongs to."""
    entity: str = ""
    """User or team; empty means the one that the API key belongs to."""
    group: str = ""
    """Group of runs within the project; empty means none."""
    tags: Texts = ()
    """Tags of the run."""
    mode: Literal["online", "offline"] = "online"
    """online needs an API key (WANDB_API_KEY or `wandb login`); offline writes files for `wandb sync`."""
    folder: OutputPath = ""
    """Folder for its files; empty means the run folder, in which it makes `wandb`."""


class MLflowOptions(TrackerOptions):
    """`[run.hook_options.mlflow]`"""

    tracking_uri: str = ""
    """Server (`http://...`), database (`sqlite:///mlflow.db`) or folder (`file:...`); empty means MLFLOW_TRACKING_URI, or else the database `mlflow.db` beside the run folders, with the files in `mlartifacts`."""
    experiment: Annotated[str, Field(min_length=1)] = "rlkit"
    """Experiment that the run belongs to; made when it does not exist."""


class TrackioOptions(TrackerOptions):
    """`[run.hook_options.trackio]`"""

    project: Annotated[str, Field(min_length=1)] = "rlkit"
    """Project that the run belongs to."""
    group: str = ""
    """Group of runs within the project; empty means none."""
    space_id: str = ""
    """Hugging Face Space that shows the run; empty keeps it on this machine."""
    server_url: str = ""
    """A trackio server of one's own; empty means none."""
    folder: OutputPath = ""
    """Folder of its local store; empty means TRACKIO_DIR, or trackio's own, where `trackio show` looks."""

    @model_validator(mode="after")
    def _one_place(self) -> TrackioOptions:
        if self.space_id and self.server_url:
            raise ValueError(
                f"trackio: space_id = {self.space_id} and server_url = {self.server_url}: give one of them"
            )
        return self
