"""The sizes of a model that may not be here yet."""

from __future__ import annotations

from rlkit.errors import RLKitError
from rlkit.models.locate import base_and_adapter, locate_model
from rlkit.models.shape import ModelShape, read_shape


def known_shape(path: str, notes: list[str]) -> ModelShape | None:
    """The model's shape without its weights; None, and a note, when it cannot be had."""
    try:
        return read_shape(locate_model(base_and_adapter(path)[0], with_weights=False, download=False))
    except RLKitError as error:
        note = f"sizes unknown: {error}"
        if note not in notes:
            notes.append(note)
        return None
