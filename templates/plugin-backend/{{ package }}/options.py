"""What users may set: `[actor.options]` in a project file, each key explained by its docstring."""

from __future__ import annotations

from rlkit.config import PluginOptions


class PlainBackendOptions(PluginOptions):
    """Unknown keys and wrong types are refused before a run starts."""

    deterministic: bool = False
    """Use only algorithms that give the same bits every time; some are slower on GPUs."""
