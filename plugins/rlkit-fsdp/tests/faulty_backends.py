"""Backends with a fault that only shows on several ranks. Loaded by reference, since ranks are processes of their own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from rlkit_fsdp.actor import FSDPActor
from rlkit_fsdp.backend import FSDPBackend
from rlkit_fsdp.ranks import Ranks
from rlkit_fsdp.supervised import FSDPSupervised

from rlkit.protocols.actor import ModelRole

Model = TypeVar("Model", FSDPActor, FSDPSupervised)


@dataclass(frozen=True)
class OwnTokensOnly(Ranks):
    """Averages the ranks' means: the well-known mistake."""

    def agree(self, batches: list[list[int]], counts: Sequence[float]) -> tuple[list[list[int]], list[float]]:
        batches, summed = super().agree(batches, counts)
        return batches, [self.size * count for count in counts] if self.size > 1 else summed


class CountsOwnTokens(FSDPBackend):
    def build_supervised(self, role: ModelRole) -> FSDPSupervised:
        return _with_own_tokens(super().build_supervised(role))

    def build_actor(self, role: ModelRole) -> FSDPActor:
        return _with_own_tokens(super().build_actor(role))


class ForgetsMoments(FSDPBackend):
    def build_supervised(self, role: ModelRole) -> FSDPSupervised:
        model = super().build_supervised(role)
        load = model.load

        def load_weights_only(folder: Path) -> None:
            load(folder)
            model.optimizer._adamw.state.clear()

        model.load = load_weights_only  # type: ignore[method-assign]
        return model


def _with_own_tokens(model: Model) -> Model:
    ranks = model.sharding.ranks
    object.__setattr__(model.sharding, "ranks", OwnTokensOnly(ranks.rank, ranks.size, ranks.device))
    return model
