"""The section that spreads models over devices."""

from __future__ import annotations

from pydantic import model_validator

from rlkit.config.base import Section
from rlkit.config.fields import NonNegativeInt


class PlacementSection(Section):
    """On how many devices the model is trained."""

    workers: NonNegativeInt = 0
    """Processes that the model is spread over, each with a GPU of its own, or on a CPU run with a share of the cores; Ray starts them, here or at `cluster.address`. 0 trains in the command's own process (or in torchrun's), without Ray."""
    nodes: NonNegativeInt = 0
    """Machines that the workers are spread over evenly; 0 takes as few as have room for them."""

    @model_validator(mode="after")
    def _workers_fill_the_nodes(self) -> PlacementSection:
        if self.nodes and (self.workers == 0 or self.workers % self.nodes):
            raise ValueError(
                f"placement.nodes = {self.nodes} does not divide placement.workers = {self.workers}: every node gets the "
                "same number of workers"
            )
        return self


class PPOPlacementSection(PlacementSection):
    """On how many devices each role of the run is. `rollout.placement` says where the engine computes."""

    workers: NonNegativeInt = 0
    """Processes that the actor is spread over, with every role that has none of its own; each has a GPU of its own, or on a CPU run a share of the cores. Ray starts them, here or at `cluster.address`. 0 trains in the command's own process, without Ray."""
    critic: NonNegativeInt = 0
    """Workers of the critic's own, besides `workers`; 0 puts it beside the actor."""
    reference: NonNegativeInt = 0
    """Workers of the reference's own, besides `workers`; 0 puts it beside the actor."""
    offload_idle_models: bool = False
    """Keep models in host memory while nothing computes with them: all of them, with their optimizers, while the engine answers, and each of them while another is at work. Takes the memory of one model at a time beside the engine, and the time of moving them at every step. A role with workers of its own stays there; on a CPU it changes nothing."""

    @property
    def all_workers(self) -> int:
        """Of all roles together."""
        return self.workers + self.critic + self.reference

    @model_validator(mode="after")
    def _others_stand_beside_workers(self) -> PPOPlacementSection:
        for name in ("critic", "reference"):
            if getattr(self, name) and not self.workers:
                raise ValueError(
                    f"placement.{name} = {getattr(self, name)} needs placement.workers above 0: the actor is then spread "
                    "over workers too"
                )
        return self
