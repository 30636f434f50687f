"""The process's random generators as a file: Python's, numpy's, torch's on the CPU and on every CUDA device.

Neither rlkit's loops nor its engines draw from them: what they draw depends on seed, step and row alone. Rewards,
environments and hooks of the user do.
"""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import numpy as np
import torch

from rlkit.errors import CheckpointError
from rlkit.tracking.run_folder import LOGGER


def seed_generators(seed: int) -> None:
    """The same start for every generator of the process."""
    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.manual_seed(seed)  # those of the CUDA devices too


def random_state() -> str:
    """The present state of every generator as JSON."""
    version, words, gauss = random.getstate()
    numpy_state: Any = np.random.get_state(legacy=False)
    content = {
        "python": [version, list(words), gauss],
        "numpy": {
            "key": numpy_state["state"]["key"].tolist(),
            "pos": numpy_state["state"]["pos"],
            "has_gauss": numpy_state["has_gauss"],
            "gauss": numpy_state["gauss"],
        },
        "torch": _as_text(torch.get_rng_state()),
        "cuda": [_as_text(state) for state in _cuda_states()],
    }
    return json.dumps(content)


def restore_random_state(file: Path) -> None:
    """Go on where `random_state` was written to `file`. Raises `CheckpointError` for a file that holds something else."""
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
        version, words, gauss = content["python"]
        random.setstate((version, tuple(words), gauss))
        of_numpy = content["numpy"]
        key = np.array(of_numpy["key"], dtype=np.uint32)
        np.random.set_state(("MT19937", key, of_numpy["pos"], of_numpy["has_gauss"], of_numpy["gauss"]))
        torch.set_rng_state(_as_state(content["torch"]))
        of_cuda = [_as_state(text) for text in content["cuda"]]
    except (OSError, ValueError, KeyError, TypeError, RuntimeError) as error:
        raise CheckpointError(f"{file} holds no random state ({type(error).__name__}: {error})") from error
    devices = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if devices != len(of_cuda):
        LOGGER.info("the checkpoint has the random states of %d CUDA devices, here are %d", len(of_cuda), devices)
    for device, state in enumerate(of_cuda[:devices]):
        torch.cuda.set_rng_state(state, device)


def _cuda_states() -> list[torch.Tensor]:
    # A device that was never used has nothing to remember, and asking would take memory on it.
    in_use = torch.cuda.is_available() and torch.cuda.is_initialized()  # type: ignore[no-untyped-call]
    return torch.cuda.get_rng_state_all() if in_use else []


def _as_text(state: torch.Tensor) -> str:
    return bytes(state.numpy()).hex()


def _as_state(text: str) -> torch.Tensor:
    return torch.frombuffer(bytearray.fromhex(text), dtype=torch.uint8)
