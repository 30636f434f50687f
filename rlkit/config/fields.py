"""Types that the config fields are made of."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BeforeValidator, Field

from rlkit.config.base import OptionsOf, ProjectPath, Selects
from rlkit.plugin.spec import PluginKind

PositiveInt = Annotated[int, Field(gt=0)]
NonNegativeInt = Annotated[int, Field(ge=0)]
PositiveFloat = Annotated[float, Field(gt=0)]
NonNegativeFloat = Annotated[float, Field(ge=0)]
Fraction = Annotated[float, Field(ge=0, le=1)]
PositiveFraction = Annotated[float, Field(gt=0, le=1)]
InputPath = Annotated[str, ProjectPath()]
OutputPath = Annotated[str, ProjectPath(must_exist=False)]


def _one_or_more(value: Any) -> Any:
    """A single string stands for a list of one, an empty string for an empty list."""
    if isinstance(value, str):
        return (value,) if value else ()
    return value


Texts = Annotated[tuple[str, ...], BeforeValidator(_one_or_more)]
InputPaths = Annotated[tuple[str, ...], ProjectPath(), BeforeValidator(_one_or_more)]

Reference = Annotated[str, ProjectPath(reference=True)]
References = Annotated[tuple[str, ...], ProjectPath(reference=True), BeforeValidator(_one_or_more)]
OutputPaths = Annotated[tuple[str, ...], ProjectPath(must_exist=False), BeforeValidator(_one_or_more)]

FamilyName = Annotated[str, ProjectPath(reference=True), Selects(PluginKind.MODEL_FAMILY)]
EngineName = Annotated[str, ProjectPath(reference=True), Selects(PluginKind.ROLLOUT_ENGINE)]
BackendName = Annotated[str, ProjectPath(reference=True), Selects(PluginKind.ACTOR_BACKEND)]
EstimatorName = Annotated[str, ProjectPath(reference=True), Selects(PluginKind.ADVANTAGE_ESTIMATOR)]
LossName = Annotated[str, ProjectPath(reference=True), Selects(PluginKind.POLICY_LOSS)]
RewardNames = Annotated[
    tuple[str, ...], ProjectPath(reference=True), Selects(PluginKind.REWARD_FUNCTION), BeforeValidator(_one_or_more)
]
RewardOptions = Annotated[dict[str, dict[str, Any]], OptionsOf(PluginKind.REWARD_FUNCTION)]
HookOptions = Annotated[dict[str, dict[str, Any]], OptionsOf(PluginKind.HOOK)]
HookNames = Annotated[
    tuple[str, ...], ProjectPath(reference=True), Selects(PluginKind.HOOK), BeforeValidator(_one_or_more)
]
