"""What actors and engines may offer besides, so that an adapter travels alone instead of merged into the whole model."""

from __future__ import annotations

from typing import Protocol

from rlkit.types.adapter import AdapterWeights


class AdapterSource(Protocol):
    """A `PolicyActor` that trains adapters may offer this; having `export_adapter` says that it does."""

    def export_adapter(self) -> AdapterWeights | None:
        """The adapter, its tensors not copied; None for a role without `lora`.

        On the model in the role's folder it is the policy that `export_weights` gives merged.
        """
        ...


class AdapterEngine(Protocol):
    """A `RolloutEngine` may offer these; having `takes_adapters` says that it does."""

    @property
    def takes_adapters(self) -> bool:
        """Whether this engine, as it was built, takes adapters of `EngineModel.lora_rank`."""
        ...

    def update_adapter(self, adapter: AdapterWeights, version: int) -> None:
        """Answer with the base model and this adapter, in place of any other; the tensors are copied.

        The base model is the one that the engine was built with, or that the last `update_weights` brought. An
        `update_weights` after it means the whole policy: the adapter is gone. Raises `ModelError` for a layer that the
        model does not have or that cannot be adapted, for a wrong shape, and when the base model is not there (released).
        """
        ...
