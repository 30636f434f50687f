"""What users may set: `[reward.options.NAME]` in a project file, each key explained by its docstring."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from rlkit.config import PluginOptions


class NumberRewardOptions(PluginOptions):
    """Unknown keys and wrong types are refused before a run starts."""

    marker: str = "Answer:"
    """Words that should stand before the number; the number is looked for behind their last occurrence."""
    marker_bonus: Annotated[float, Field(ge=0)] = 0.1
    """Score for using the marker, right or wrong; 0 asks for no marker."""
    tolerance: Annotated[float, Field(ge=0)] = 1e-6
    """Largest distance from the reference that still counts as right, relative to it (absolute below 1)."""
