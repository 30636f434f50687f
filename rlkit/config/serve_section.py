"""The section of `rlkit serve`."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field, model_validator

from rlkit.config.base import Section
from rlkit.config.fields import EngineName, NonNegativeFloat, OutputPaths, PositiveInt


class ServeSection(Section):
    """Where the server listens, who may ask, and how much at once."""

    engine: EngineName = "hf"
    """Rollout engine plugin."""
    options: dict[str, Any] = Field(default_factory=dict)
    """The engine's own options; see `rlkit plugins show`."""
    host: str = "127.0.0.1"
    """Address to listen on. The default can be reached from this machine only; 0.0.0.0 is every network it is in."""
    port: Annotated[int, Field(ge=0, le=65535)] = 8000
    """Port to listen on; 0 takes a free one and says which."""
    model_name: str = ""
    """What clients call the model; empty: the Hub id, or the name of the model's folder (of the run for `RUN/model`)."""
    api_key_env: str = ""
    """Environment variable that holds the key which clients must send; empty lets everybody in who can reach the address."""
    max_queue: PositiveInt = 1024
    """Answers in progress and waiting together; a request beyond it gets status 429."""
    max_body_bytes: PositiveInt = 4_194_304
    """Longest request body; a longer one gets status 413."""
    default_max_tokens: PositiveInt = 1024
    """Longest answer to a chat request that names no limit, as far as the context allows."""
    timeout_s: NonNegativeFloat = 600.0
    """Seconds that one request may take, waiting included, before it is given up with status 504; 0 sets no limit."""
    drain_timeout_s: NonNegativeFloat = 60.0
    """Seconds that a stopping server gives to answers in progress."""
    weights_folders: OutputPaths = ()
    """Folders that `POST /v1/weights` may load new weights from; empty: there is no such endpoint. Needs `weights_key_env`."""
    weights_key_env: str = ""
    """Environment variable that holds the key for `POST /v1/weights`; that of `api_key_env` does not open it, unless it is the same."""
    access_log: bool = False
    """One line on standard error for each request; `/metrics` counts them anyway."""

    @model_validator(mode="after")
    def _weights_are_guarded(self) -> ServeSection:
        if self.weights_folders and not self.weights_key_env:
            raise ValueError(
                "serve.weights_folders lets clients replace the model: name the environment variable with their key in "
                "serve.weights_key_env"
            )
        return self
