"""Settings that libraries need to behave in a training process and in every worker; the user's own value wins."""

from __future__ import annotations

import os

ENVIRONMENT_GUARDS = {"TOKENIZERS_PARALLELISM": "false"}


def set_environment_guards() -> None:
    """To be called before the libraries are imported."""
    for name, value in ENVIRONMENT_GUARDS.items():
        os.environ.setdefault(name, value)
