"""The data that moves between stages, as frozen dataclasses.

Importing this package imports no torch; the tensors inside are torch tensors.
"""

from rlkit.types.adapter import AdapterWeights
from rlkit.types.completion import CompletionChunk, CompletionRequest, TopLogProbs
from rlkit.types.conversation import Conversation, ConversationEnd
from rlkit.types.experience import Experience
from rlkit.types.held_model import HeldModel
from rlkit.types.prompts import Prompt, PromptBatch
from rlkit.types.ragged import Ragged
from rlkit.types.reward import Reward, Sample
from rlkit.types.rollouts import FinishReason, Rollouts
from rlkit.types.sampling import SamplingParams
from rlkit.types.supervised import SupervisedBatch

__all__ = [
    "AdapterWeights",
    "CompletionChunk",
    "CompletionRequest",
    "Conversation",
    "ConversationEnd",
    "Experience",
    "FinishReason",
    "HeldModel",
    "Prompt",
    "PromptBatch",
    "Ragged",
    "Reward",
    "Rollouts",
    "Sample",
    "SamplingParams",
    "SupervisedBatch",
    "TopLogProbs",
]
