"""`required_plugins` of a project file: distributions that must be installed before anything is assembled."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import metadata

from packaging.requirements import InvalidRequirement, Requirement

from rlkit.errors import ConfigError, MissingRequirementError


def check_required_plugins(requirements: Sequence[str]) -> None:
    """Raises `ConfigError` for an unreadable requirement, `MissingRequirementError` naming every unmet one."""
    unmet: list[str] = []
    for text in requirements:
        try:
            requirement = Requirement(text)
        except InvalidRequirement as error:
            raise ConfigError(
                f"run.required_plugins: '{text}' is not a requirement such as \"rlkit-hf>=0.1\""
            ) from error
        try:
            version = metadata.version(requirement.name)
        except metadata.PackageNotFoundError:
            unmet.append(f"{text} (not installed)")
            continue
        if not requirement.specifier.contains(version, prereleases=True):
            unmet.append(f"{text} (installed: {version})")
    if unmet:
        wanted = " ".join(f"'{item.rpartition(' (')[0]}'" for item in unmet)
        raise MissingRequirementError(f"run.required_plugins: {', '.join(unmet)}; pip install {wanted}")
