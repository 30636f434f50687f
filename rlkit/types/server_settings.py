"""What a server is told: where it listens, who may ask, how much at once."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True)
class ServerSettings:
    """From the `[serve]` section, for rlkit's own server and for engines that bring theirs.

    host, port           where to listen; port 0 takes a free one
    model_name           what clients call the model
    api_key              what clients must send as a bearer token; empty: nothing. Never shown, not even in a traceback
    weights_key          the same for the endpoint that replaces the weights
    weights_folders      where new weights may come from; empty: there is no such endpoint
    max_queue            answers in progress and waiting together
    max_body_bytes       longest request body
    max_context          tokens of prompt and answer together: the model's context length
    default_max_tokens   length of an answer to a request that names none
    timeout_s            how long one request may take; 0: as long as it likes
    drain_timeout_s      how long a stopping server waits for answers in progress
    access_log           one line for each request on standard error
    """

    host: str
    port: int
    model_name: str
    max_queue: int
    max_body_bytes: int
    max_context: int
    default_max_tokens: int
    timeout_s: float
    drain_timeout_s: float
    api_key: str = field(default="", repr=False)
    weights_key: str = field(default="", repr=False)
    weights_folders: tuple[Path, ...] = ()
    access_log: bool = False
    seed: int = 0
