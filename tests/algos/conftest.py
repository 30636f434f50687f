"""Reference values computed by an independent implementation, as tensors."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch


def _tensors(value: Any) -> Any:
    if isinstance(value, dict) and set(value) == {"shape", "data"}:
        return torch.tensor(value["data"]).reshape(value["shape"])
    if isinstance(value, dict):
        return {key: _tensors(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_tensors(inner) for inner in value]
    return value


@pytest.fixture(scope="session")
def oracle() -> dict[str, Any]:
    return _tensors(json.loads((Path(__file__).parent / "oracle" / "rl_math.json").read_text()))
