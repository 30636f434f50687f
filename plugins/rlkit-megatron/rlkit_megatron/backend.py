"""The plugin's target: it builds the models of the roles."""

from __future__ import annotations

from rlkit.protocols.actor import ModelRole, OptimizerSettings, RowShare
from rlkit_megatron.actor import MegatronActor, MegatronReference
from rlkit_megatron.actor_critic import MegatronActorCritic
from rlkit_megatron.core_version import check_version
from rlkit_megatron.critic import MegatronCritic
from rlkit_megatron.moving_reference import MegatronMovingReference
from rlkit_megatron.options import MegatronOptions
from rlkit_megatron.parallel import share_of_rows
from rlkit_megatron.supervised import MegatronSupervised


class MegatronBackend:
    """Models spread over the processes of torch.distributed's default group, or in this process where there is none."""

    def __init__(self, options: MegatronOptions | None = None) -> None:
        check_version()
        self.options = options or MegatronOptions()

    def row_share(self) -> RowShare:
        """Which rows this process works on: the processes that hold one copy of a model share them."""
        return share_of_rows(self.options)

    def build_actor(self, role: ModelRole) -> MegatronActor:
        return MegatronActor(role, self.options)

    def build_reference(self, role: ModelRole) -> MegatronReference:
        return MegatronReference(role, self.options)

    def build_moving_reference(self, role: ModelRole) -> MegatronMovingReference:
        return MegatronMovingReference(role, self.options)

    def build_critic(self, role: ModelRole) -> MegatronCritic:
        return MegatronCritic(role, self.options)

    def build_actor_critic(self, role: ModelRole, *, head: OptimizerSettings) -> MegatronActorCritic:
        return MegatronActorCritic(role, self.options, head=head)

    def build_supervised(self, role: ModelRole) -> MegatronSupervised:
        return MegatronSupervised(role, self.options)
