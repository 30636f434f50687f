"""A model that a reward function keeps in memory, as its options describe it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class HeldModel:
    """What `--dry-run` needs to count it.

    path          folder or Hub id
    dtype         float32, bfloat16 or float16
    batch_tokens  tokens of its largest forward pass
    replicas      copies as Ray actors; 0: one in the trainer's process
    device        auto, cpu or cuda
    is_offloaded  its weights leave the device between calls
    """

    path: str
    dtype: str
    batch_tokens: int
    replicas: int = 0
    device: str = "auto"
    is_offloaded: bool = False
