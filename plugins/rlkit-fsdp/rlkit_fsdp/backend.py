"""The plugin's target: it builds the models of the roles."""

from __future__ import annotations

from rlkit.protocols.actor import ModelRole
from rlkit_fsdp.actor import FSDPActor, FSDPReference
from rlkit_fsdp.critic import FSDPCritic
from rlkit_fsdp.supervised import FSDPSupervised


class FSDPBackend:
    """One process, one device."""

    def build_actor(self, role: ModelRole) -> FSDPActor:
        return FSDPActor(role)

    def build_reference(self, role: ModelRole) -> FSDPReference:
        return FSDPReference(role)

    def build_critic(self, role: ModelRole) -> FSDPCritic:
        return FSDPCritic(role)

    def build_supervised(self, role: ModelRole) -> FSDPSupervised:
        return FSDPSupervised(role)
