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
    RowShare,
    SharesRows,
)
from rlkit.protocols.actor_critic import ActorCritic
from rlkit.protocols.adapters import AdapterEngine, AdapterSource
from rlkit.protocols.critic import Critic
from rlkit.protocols.environment import Environment, EnvironmentStep
from rlkit.protocols.family import ModelFamily, ModelHead, SuppliesMegatronRecipe
from rlkit.protocols.reward import RewardFunction
from rlkit.protocols.rollout_engine import RolloutEngine
from rlkit.protocols.saving import FinishedSave, ListsFiles, PendingSave
from rlkit.protocols.serving_engine import EngineServer, ServedApp, ServingEngine
from rlkit.protocols.supervised import SupervisedTrainee
from rlkit.protocols.tokenizer import Tokenizer
from rlkit.protocols.weight_sync import WeightSync

__all__ = [
    "ActorBackend",
    "ActorCritic",
    "AdapterEngine",
    "AdapterSource",
    "Critic",
    "EngineServer",
    "Environment",
    "EnvironmentStep",
    "FinishedSave",
    "ListsFiles",
    "LogProbs",
    "LoraSettings",
    "Metrics",
    "ModelFamily",
    "ModelHead",
    "ModelRole",
    "MovingReference",
    "PendingSave",
    "PolicyActor",
    "ReferenceModel",
    "RewardFunction",
    "RolloutEngine",
    "RowShare",
    "ServedApp",
    "ServingEngine",
    "SharesRows",
    "SupervisedTrainee",
    "SuppliesMegatronRecipe",
    "Tokenizer",
    "WeightSync",
]
