"""Typed, frozen, strict configuration. Imports pydantic, but neither torch nor any plugin."""

from rlkit.config.base import PluginOptions, Section
from rlkit.config.fields import InputPath, OutputPath
from rlkit.config.runs import RUN_CONFIGS, EvalConfig, GenerateConfig, PPOConfig, ServeConfig, SFTConfig

__all__ = [
    "RUN_CONFIGS",
    "EvalConfig",
    "GenerateConfig",
    "InputPath",
    "OutputPath",
    "PPOConfig",
    "PluginOptions",
    "SFTConfig",
    "Section",
    "ServeConfig",
]
