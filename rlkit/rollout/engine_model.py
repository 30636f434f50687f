"""The model that a rollout engine answers with."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from rlkit.protocols import ModelFamily, Tokenizer


@dataclass(frozen=True)
class EngineModel:
    """Given to every engine: `Target(options, model=EngineModel(...))`.

    folder            config.json, safetensors and tokenizer files
    dtype             of parameters and arithmetic: float32, bfloat16, float16
    device            cpu, cuda, cuda:1
    seed              of whatever the engine draws besides `SamplingParams.seed`
    lora_rank         largest rank of the adapters that may come (`rlkit.protocols.adapters`); 0: none will
    """

    folder: Path
    family: ModelFamily
    tokenizer: Tokenizer
    dtype: str
    device: str
    trust_remote_code: bool
    seed: int
    lora_rank: int = 0
