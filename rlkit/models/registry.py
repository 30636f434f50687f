"""Which model family answers to an architecture. No family is imported until it is chosen."""

from __future__ import annotations

from difflib import get_close_matches
from pathlib import Path
from typing import cast

from rlkit.errors import ModelError, PluginError
from rlkit.models.image_text import is_image_text
from rlkit.models.shape import architecture_of, read_config_json
from rlkit.plugin import PluginKind
from rlkit.protocols.family import ModelFamily

AUTO = "auto"
"""As a setting: find the family. As a plugin name: the family for every architecture that transformers knows."""


def find_family(source: Path | str, *, family: str = AUTO) -> ModelFamily:
    """The model family for a model folder or an architecture name, ready for use. Raises as `choose_family` does."""
    return build_family(choose_family(source, family=family))


def choose_family(source: Path | str, *, family: str = AUTO) -> str:
    """Plugin name of the family for a model folder (Path) or an architecture (str).

    An explicit `family` is taken if it answers to the architecture. `auto` takes the family that lists the architecture,
    else the plugin `auto` where transformers knows the architecture. Raises `ModelError` with near matches and what is
    installed when nothing answers.
    """
    architecture = architecture_of(read_config_json(source), str(source)) if isinstance(source, Path) else source
    if family != AUTO:
        return _explicit(family, architecture)
    by_name = installed_architectures()
    listing = sorted(name for name, architectures in by_name.items() if architecture in architectures)
    if len(listing) > 1:
        raise ModelError(
            f"architecture '{architecture}' is claimed by the families {', '.join(listing)}; set model.family to one of them"
        )
    if listing:
        return listing[0]
    needs_own_code = isinstance(source, Path) and bool(read_config_json(source).get("auto_map"))
    if AUTO in by_name and (needs_own_code or transformers_knows(architecture)):
        return AUTO
    raise ModelError(_unknown(architecture, by_name))


def build_family(name: str) -> ModelFamily:
    """The family plugin `name` (or `file.py:function`), ready for use."""
    from rlkit.plugin.loader import build_plugin

    return cast(ModelFamily, build_plugin(PluginKind.MODEL_FAMILY, name, {}, where="model"))


def installed_architectures() -> dict[str, tuple[str, ...]]:
    """Architectures by family plugin; plugins that cannot be described are left out (`rlkit plugins list` shows them)."""
    from rlkit.plugin.discovery import installed_plugins
    from rlkit.plugin.loader import load_spec

    families: dict[str, tuple[str, ...]] = {}
    for plugin in installed_plugins():
        if plugin.kind is not PluginKind.MODEL_FAMILY or plugin.state != "ok":
            continue
        try:
            families[plugin.name] = load_spec(PluginKind.MODEL_FAMILY, plugin.name).architectures
        except PluginError:
            continue
    return families


def transformers_knows(architecture: str) -> bool:
    """Whether the installed transformers implements this architecture as a language model, an image-text model, or a
    value model of a language model."""
    from transformers.models.auto.modeling_auto import (
        MODEL_FOR_CAUSAL_LM_MAPPING_NAMES,
        MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING_NAMES,
    )

    if architecture in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES.values() or is_image_text(architecture):
        return True
    return any(
        name == architecture and model_type in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES
        for model_type, name in MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING_NAMES.items()
    )


def _explicit(family: str, architecture: str) -> str:
    from rlkit.plugin.loader import load_spec

    architectures = load_spec(PluginKind.MODEL_FAMILY, family).architectures
    if architectures and architecture not in architectures:
        raise ModelError(
            f"model family '{family}' does not answer to architecture '{architecture}'; it answers to "
            f"{', '.join(architectures)}. Leave model.family = auto to have the family found"
        )
    return family


def _unknown(architecture: str, by_name: dict[str, tuple[str, ...]]) -> str:
    known = sorted({name for architectures in by_name.values() for name in architectures})
    near = get_close_matches(architecture, known, n=3, cutoff=0.6)
    hint = f"; near matches: {', '.join(near)}" if near else ""
    installed = ", ".join(sorted(by_name)) or "(none)"
    return f"no model family answers to architecture '{architecture}'{hint}; installed families: {installed}"
