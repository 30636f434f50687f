"""The two base classes of everything that can be configured."""

from __future__ import annotations

from dataclasses import dataclass

from pydantic import BaseModel, ConfigDict
from pydantic_core import PydanticCustomError

from rlkit.plugin.spec import PluginKind


class Section(BaseModel):
    """A part of a project file: strict, frozen, unknown keys refused, field docstrings kept as documentation."""

    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        use_attribute_docstrings=True,
        allow_inf_nan=False,
        hide_input_in_errors=False,
    )


FAULT_IN_SECTION = "fault_in_section"


def fault_in_section(message: str) -> PydanticCustomError:
    """What a validator raises in a section that stands in several places: `message` begins with one of its keys, before
    which the user sees the path of the section."""
    return PydanticCustomError(FAULT_IN_SECTION, "{message}", {"message": message})


class PluginOptions(Section):
    """Base of a plugin's own options: the `options` table beside the plugin's name in a project file."""


@dataclass(frozen=True)
class ProjectPath:
    """Marks a field that holds a path (or a tuple of them) in its annotation's metadata, in options of a plugin too.

    must_exist: the value may also be a Hub id or a plugin name, so it is taken as a path only when it exists beside
    the project file; otherwise (outputs) it always is one. reference: only `file.py:attribute` is a path, since a folder
    that happens to be called like a plugin is none.
    """

    must_exist: bool = True
    reference: bool = False


@dataclass(frozen=True)
class OptionsOf:
    """Marks a field that holds tables of options by the names of the plugins that they are for."""

    kind: PluginKind


@dataclass(frozen=True)
class Selects:
    """Marks a field that holds the name of a plugin (or a tuple of them), or `file.py:attribute`."""

    kind: PluginKind
