"""Whether a worker runs the same code as the driver."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from importlib import metadata

from rlkit.errors import ClusterError

CORE = ("rlkit-llm", "torch", "transformers")
"""Distributions that decide what an engine answers, besides those of the plugins."""


def versions_of(distributions: Iterable[str]) -> dict[str, str]:
    """Versions of `CORE` and of `distributions` in this process; what is not installed is left out."""
    found = {}
    for name in dict.fromkeys((*CORE, *distributions)):
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def check_versions(expected: Mapping[str, str], *, node: str) -> None:
    """Raises `ClusterError` naming the node, the distribution and both versions, for the first that differs."""
    for name, wanted in expected.items():
        try:
            found = metadata.version(name)
        except metadata.PackageNotFoundError:
            raise ClusterError(
                f"node {node} has no {name}, the driver has {name} {wanted}; install that version there"
            ) from None
        if found != wanted:
            raise ClusterError(
                f"node {node} has {name} {found}, the driver has {wanted}; install {name}=={wanted} there"
            )
