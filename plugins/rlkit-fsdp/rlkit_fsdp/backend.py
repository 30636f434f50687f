"""The plugin's target: it builds the models of the roles."""

from __future__ import annotations

from rlkit.protocols.actor import ModelRole
from rlkit_fsdp.actor import FSDPActor, FSDPReference
from rlkit_fsdp.actor_critic import FSDPActorCritic
from rlkit_fsdp.critic import FSDPCritic
from rlkit_fsdp.moving_reference import FSDPMovingReference
from rlkit_fsdp.supervised import FSDPSupervised


class FSDPBackend:
    """One process, one device."""

    def build_actor(self, role: ModelRole) -> FSDPActor:
        return FSDPActor(role)

    def build_reference(self, role: ModelRole) -> FSDPReference:
        return FSDPReference(role)

    def build_moving_reference(self, role: ModelRole) -> FSDPMovingReference:
        return FSDPMovingReference(role)

    def build_critic(self, role: ModelRole) -> FSDPCritic:
        return FSDPCritic(role)

    def build_actor_critic(self, role: ModelRole, *, head_lr: float) -> FSDPActorCritic:
        return FSDPActorCritic(role, head_lr=head_lr)

    def build_supervised(self, role: ModelRole) -> FSDPSupervised:
        return FSDPSupervised(role)
