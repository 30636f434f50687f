"""The section of Ray, and of processes that fail."""

from __future__ import annotations

from pydantic import Field

from rlkit.config.base import Section
from rlkit.config.fields import NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt
from rlkit.config.patterns import CLUSTER_ADDRESS


class ClusterSection(Section):
    """Ray, and what happens when processes fail; read with `placement.workers` or replicas of the rollout engine, and under torchrun `call_timeout_s` alone."""

    address: str = Field(default="", pattern=CLUSTER_ADDRESS)
    """Ray cluster to join: `host:port`, or `auto` for the one that runs on this machine. Empty starts Ray for this run, on this machine's loopback interface, and ends it with the run."""
    start_timeout_s: PositiveFloat = 600.0
    """Seconds until all workers must have a place, and again until their processes must run; and until all replicas must have a place and a loaded model."""
    max_restarts: NonNegativeInt = 5
    """Times that the run goes on from its last checkpoint after a training worker was lost; then the next loss ends it. And replicas that are started anew within any `restart_window_s`; those that die beyond it stay away, and the run ends with the last one."""
    restart_window_s: PositiveFloat = 600.0
    """Seconds over which restarts of replicas are counted."""
    call_timeout_s: NonNegativeFloat = 3600.0
    """A training worker that is at one call (the update on a mini-batch, log-probs, reading a checkpoint), or at one file of a checkpoint, for so many seconds counts as lost; 0 waits for as long as it lives. Processes of torchrun wait for each other a minute longer."""
    request_attempts: PositiveInt = 3
    """Replicas that a prompt may bring down before it is given up; the last attempt is made with this prompt alone."""
    request_timeout_s: NonNegativeFloat = 0.0
    """A replica that has worked on one request for so many seconds counts as dead, however alive it is; 0 waits for as long as its process gives signs of life."""
    silence_timeout_s: NonNegativeFloat = 120.0
    """A replica or training worker at work whose process has given no sign of life for so many seconds (stopped, swapped out, cut off) counts as dead; the time before its first sign is that of `start_timeout_s`. A sign comes each second, however long an answer takes; 0 waits for ever."""
    weight_chunk_mb: PositiveInt = 256
    """New weights go to the replicas through shared memory in pieces of this many MiB; a larger tensor is a piece of its own."""
    object_store_gb: NonNegativeFloat = 0.0
    """Shared memory of a Ray that is started here, in GiB: the weights of the model should fit twice. 0 leaves Ray's choice, 30 % of the machine."""
