"""What users may set: `algorithm.policy_loss_options` in a project file, each key explained by its docstring."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from rlkit.config import PluginOptions


class BoundedLossOptions(PluginOptions):
    """Unknown keys and wrong types are refused before a run starts."""

    bound: Annotated[float, Field(gt=0, lt=1)] = 0.2
    """A token is left alone once its probability ratio is further than this from 1."""
