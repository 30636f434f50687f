"""What vLLM runs in each of its processes when it starts, by `rlkit serve`, in training or by hand (`vllm serve`).

Its entry point group `vllm.general_plugins` leads here.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping

from rlkit.errors import RLKitError
from rlkit.models.registry import build_family, installed_architectures
from rlkit_vllm.vllm_api import register_model

LOGGER = logging.getLogger("rlkit_vllm")


def load_families() -> None:
    """Import the installed model families, and tell vLLM which classes of theirs implement an architecture in it.

    A family says so by `vllm_models`: architecture -> `module:Class`. Most have none, since vLLM implements theirs, or
    computes with the module that they have registered with transformers. One that cannot be imported is reported and
    left out: vLLM may have been started for a model of another one.
    """
    for name in installed_architectures():
        try:
            family = build_family(name)
        except RLKitError as error:
            LOGGER.warning("model family %s is not loaded into vLLM: %s", name, error)
            continue
        models: Mapping[str, str] = getattr(family, "vllm_models", {})
        for architecture, implementation in models.items():
            register_model(architecture, implementation)
