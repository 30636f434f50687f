"""What a plugin of each kind must be able to do. Structural: nothing needs to be inherited."""

from rlkit.protocols.actor import (
    ActorBackend,
    LogProbs,
    LoraSettings,
    Metrics,
    ModelRole,
    MovingReference,
    PolicyActor,
    ReferenceModel,
)
from rlkit.protocols.actor_critic import ActorCritic
from rlkit.protocols.critic import Critic
from rlkit.protocols.environment import Environment, EnvironmentStep
from rlkit.protocols.family import ModelFamily, ModelHead
from rlkit.protocols.reward import RewardFunction
from rlkit.protocols.rollout_engine import RolloutEngine
from rlkit.protocols.serving_engine import EngineServer, ServingEngine
from rlkit.protocols.supervised import SupervisedTrainee
from rlkit.protocols.tokenizer import Tokenizer
from rlkit.protocols.weight_sync import WeightSync

__all__ = [
    "ActorBackend",
    "ActorCritic",
    "Critic",
    "EngineServer",
    "Environment",
    "EnvironmentStep",
    "LogProbs",
    "LoraSettings",
    "Metrics",
    "ModelFamily",
    "ModelHead",
    "ModelRole",
    "MovingReference",
    "PolicyActor",
    "ReferenceModel",
    "RewardFunction",
    "RolloutEngine",
    "ServingEngine",
    "SupervisedTrainee",
    "Tokenizer",
    "WeightSync",
]
