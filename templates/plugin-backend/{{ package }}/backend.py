"""An actor backend that is easy to read: one device, one row at a time, nothing but PyTorch and transformers.

    rows of a mini-batch --one by one--> forward, share of the loss, backward --> gradients add up --> one AdamW step

The loss denominators are counted over the whole mini-batch first, so going row by row changes nothing but the speed.
"""

from __future__ import annotations

import torch

from rlkit.protocols.actor import ModelRole, OptimizerSettings

from .actor import Actor, Reference
from .actor_critic import ActorCritic
from .critic import Critic
from .moving_reference import MovingReference
from .options import PlainBackendOptions
from .supervised import Supervised


class PlainBackend:
    """Implements `rlkit.protocols.ActorBackend`: it builds the model of each role."""

    def __init__(self, options: PlainBackendOptions) -> None:
        if options.deterministic:
            torch.use_deterministic_algorithms(True)

    def build_actor(self, role: ModelRole) -> Actor:
        return Actor(role)

    def build_reference(self, role: ModelRole) -> Reference:
        return Reference(role)

    def build_moving_reference(self, role: ModelRole) -> MovingReference:
        return MovingReference(role)

    def build_critic(self, role: ModelRole) -> Critic:
        return Critic(role)

    def build_actor_critic(self, role: ModelRole, *, head: OptimizerSettings) -> ActorCritic:
        return ActorCritic(role, head)

    def build_supervised(self, role: ModelRole) -> Supervised:
        return Supervised(role)
