"""Types that the config fields are made of."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BeforeValidator, Field

from rlkit.config.base import ProjectPath

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
PluginName = Annotated[str, ProjectPath(reference=True)]
PluginNames = Annotated[tuple[str, ...], ProjectPath(reference=True), BeforeValidator(_one_or_more)]
