"""The section of Ray and of replicas that fail."""

from __future__ import annotations

from pydantic import Field

from rlkit.config.base import Section
from rlkit.config.fields import NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt
from rlkit.config.patterns import CLUSTER_ADDRESS


class ClusterSection(Section):
    """Ray, and what happens when replicas fail; read only when replicas of the rollout engine answer."""

    address: str = Field(default="", pattern=CLUSTER_ADDRESS)
    """Ray cluster to join: `host:port`, or `auto` for the one that runs on this machine. Empty starts Ray for this run, on this machine's loopback interface, and ends it with the run."""
    start_timeout_s: PositiveFloat = 600.0
    """Seconds until all replicas must have a place and a loaded model."""
    max_restarts: NonNegativeInt = 5
    """Replicas that are started anew within any `restart_window_s`; those that die beyond it stay away, and the run ends with the last one."""
    restart_window_s: PositiveFloat = 600.0
    """Seconds over which restarts are counted."""
    request_attempts: PositiveInt = 3
    """Replicas that a prompt may bring down before it is given up; the last attempt is made with this prompt alone."""
    request_timeout_s: NonNegativeFloat = 0.0
    """A replica that has worked on one request for so many seconds counts as dead; 0 waits for as long as it lives."""
    weight_chunk_mb: PositiveInt = 256
    """New weights go to the replicas through shared memory in pieces of this many MiB; a larger tensor is a piece of its own."""
    object_store_gb: NonNegativeFloat = 0.0
    """Shared memory of a Ray that is started here, in GiB: the weights of the model should fit twice. 0 leaves Ray's choice, 30 % of the machine."""
