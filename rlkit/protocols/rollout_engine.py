"""Rollout engines: they hold a copy of the policy and answer prompts with it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Literal, Protocol

from rlkit.types.prompts import PromptBatch
from rlkit.types.rollouts import Rollouts
from rlkit.types.sampling import SamplingParams

if TYPE_CHECKING:
    from torch import Tensor

EnginePart = Literal["weights", "kv_cache"]


class RolloutEngine(Protocol):
    """Constructed by the pipeline as `Target(options, model=EngineModel(...))`; see `rlkit.rollout.engine_model`.

    Order of calls in training: generate -> release -> (the actor trains) -> resume -> update_weights -> generate. Where the
    trained models leave the device for the engine's sake, update_weights comes while the KV cache is still released.

    `Rollouts.rollout_log_probs` are there, unless the engine has an attribute `gives_log_probs` that is False.
    """

    def generate(self, prompts: PromptBatch, sampling: SamplingParams) -> Rollouts:
        """`sampling.samples` answers a prompt, the rows of one prompt next to each other, in the order of `prompts`.

        group_ids count the prompts of this batch from 0. Rows that hit a fault raise; nothing is dropped silently.
        """
        ...

    def resume(self, parts: Iterable[EnginePart]) -> None:
        """Take back the memory given up by `release`. Does nothing for parts that are already there."""
        ...

    def release(self, parts: Iterable[EnginePart]) -> None:
        """Give memory to others. Weights may be lost: `update_weights` comes before the next `generate`."""
        ...

    def update_weights(self, named_tensors: Iterable[tuple[str, Tensor]], version: int) -> None:
        """Replace the weights in place. Names are the Hugging Face names; every parameter appears once.

        `version` becomes `Rollouts.policy_version`. Raises `ModelError` for an unknown name or a wrong shape.
        """
        ...

    def close(self) -> None:
        """Free everything; may be called twice."""
        ...
