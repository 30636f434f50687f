"""The GPUs of this process."""

from __future__ import annotations

import os


def visible_gpus() -> list[str]:
    """As CUDA_VISIBLE_DEVICES calls them, in torch's order."""
    import torch

    given = os.environ.get("CUDA_VISIBLE_DEVICES")
    return given.split(",") if given else [str(index) for index in range(torch.cuda.device_count())]
