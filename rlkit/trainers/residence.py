"""Which models are on their devices while the loop computes; the others wait in host memory.

rollout, validation     none: the device is the engine's
log-probs               actor, then reference, then critic
update                  critic, then actor, then actor and reference (when the reference follows)
new weights             actor
checkpoint              none: a backend saves a model from wherever it is
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, Protocol

Role = Literal["actor", "critic", "reference"]


class Movable(Protocol):
    """What all models have in common here."""

    def onload(self) -> None: ...

    def offload(self) -> None: ...


class Residence:
    """Models by the roles that they compute for; one model may have several roles. They are in host memory at first.

    A role that is not among them has a model that stays where it is; without any, nothing ever moves.
    """

    def __init__(self, models: Mapping[Role, Movable] | None = None) -> None:
        self._models = dict(models or {})
        self._present: list[Movable] = []

    @property
    def moves_models(self) -> bool:
        return bool(self._models)

    def bring(self, *roles: Role) -> None:
        """From here on the models of `roles`, and no others, are on their devices."""
        wanted: list[Movable] = []
        for role in roles:
            model = self._models.get(role)
            if model is not None and not _is_among(model, wanted):
                wanted.append(model)
        for model in self._present:
            if not _is_among(model, wanted):
                model.offload()
        for model in wanted:
            if not _is_among(model, self._present):
                model.onload()
        self._present = wanted


def _is_among(model: Movable, models: list[Movable]) -> bool:
    return any(model is other for other in models)
