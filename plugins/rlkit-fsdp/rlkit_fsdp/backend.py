"""The plugin's target: it builds the models of the roles."""

from __future__ import annotations

from rlkit.protocols.actor import ModelRole, OptimizerSettings
from rlkit_fsdp.actor import FSDPActor, FSDPReference
from rlkit_fsdp.actor_critic import FSDPActorCritic
from rlkit_fsdp.critic import FSDPCritic
from rlkit_fsdp.moving_reference import FSDPMovingReference
from rlkit_fsdp.options import FSDPOptions
from rlkit_fsdp.supervised import FSDPSupervised


class FSDPBackend:
    """Models spread over the processes of torch.distributed's default group, or in this process where there is none."""

    def __init__(self, options: FSDPOptions | None = None) -> None:
        self.options = options or FSDPOptions()

    def build_actor(self, role: ModelRole) -> FSDPActor:
        return FSDPActor(role, self.options)

    def build_reference(self, role: ModelRole) -> FSDPReference:
        return FSDPReference(role, self.options)

    def build_moving_reference(self, role: ModelRole) -> FSDPMovingReference:
        return FSDPMovingReference(role, self.options)

    def build_critic(self, role: ModelRole) -> FSDPCritic:
        return FSDPCritic(role, self.options)

    def build_actor_critic(self, role: ModelRole, *, head: OptimizerSettings) -> FSDPActorCritic:
        return FSDPActorCritic(role, head=head, options=self.options)

    def build_supervised(self, role: ModelRole) -> FSDPSupervised:
        return FSDPSupervised(role, self.options)
