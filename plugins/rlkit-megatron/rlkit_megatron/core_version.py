"""The releases of megatron-core that this plugin was made for."""

from __future__ import annotations

import importlib.metadata

from packaging.specifiers import SpecifierSet

from rlkit.errors import MissingRequirementError

VERSIONS = SpecifierSet(">=0.16,<0.18")
"""As the distribution's metadata has it, which `pip install --no-deps` and later upgrades pass over."""


def check_version() -> str:
    """The installed version. Raises `MissingRequirementError` when it is not one that this plugin was made for."""
    version = importlib.metadata.version("megatron-core")
    if not VERSIONS.contains(version, prereleases=True):
        raise MissingRequirementError(
            f"actor backend megatron works with megatron-core {VERSIONS}, installed is {version}; "
            f"pip install 'megatron-core{VERSIONS}'"
        )
    return version
