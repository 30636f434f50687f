"""The family of last resort: whatever transformers itself implements."""

from __future__ import annotations

from rlkit.models.family import TransformersFamily
from rlkit.protocols import ModelFamily


def auto() -> ModelFamily:
    """No sizes of its own: it opens existing models and makes none."""
    return TransformersFamily("", {})
