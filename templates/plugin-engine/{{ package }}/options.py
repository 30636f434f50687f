"""What users may set: `[rollout.options]` in a project file, each key explained by its docstring."""

from __future__ import annotations

from rlkit.config import PluginOptions


class SimpleEngineOptions(PluginOptions):
    """Unknown keys and wrong types are refused before a run starts."""

    use_cache: bool = True
    """Keep keys and values of earlier tokens; without, every token reads the whole text again (slower, less memory)."""
