"""What a failure while weights are loaded leaves behind; without vLLM."""

from __future__ import annotations

import asyncio
import sys
from contextlib import nullcontext
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from rlkit_vllm import vllm_api
from rlkit_vllm.vllm_api import VLLM, WorkerCalls
from rlkit_vllm.vllm_server_api import VLLMServer
from torch import nn


class Fault(Exception):
    """Of vLLM."""


class Adapted(nn.Module):
    """In the shape of vLLM's adapters."""

    def __init__(self, base_layer: nn.Module) -> None:
        super().__init__()
        self.base_layer = base_layer


def take_off(model: nn.Module) -> list[tuple[nn.Module, str, nn.Module]]:
    found: list[tuple[nn.Module, str, nn.Module]] = []
    for name, child in list(model.named_children()):
        if isinstance(child, Adapted):
            setattr(model, name, child.base_layer)
            found.append((model, name, child))
    return found


@pytest.fixture
def worker(monkeypatch: pytest.MonkeyPatch) -> Any:
    """A worker whose vLLM fails as `worker.failing` says, with one adapted layer."""
    calls: Any = WorkerCalls()

    def step(name: str) -> Any:
        def run(*arguments: Any) -> None:
            if calls.failing == name:
                raise Fault(name)

        return run

    reload = SimpleNamespace(initialize_layerwise_reload=step("begin"), finalize_layerwise_reload=step("end"))
    monkeypatch.setitem(sys.modules, "vllm.model_executor.model_loader.reload", reload)
    monkeypatch.setitem(
        sys.modules, "vllm.config", SimpleNamespace(set_current_vllm_config=lambda config: nullcontext())
    )
    monkeypatch.setattr(vllm_api, "take_off_adapters", take_off)
    model: Any = nn.Sequential(Adapted(nn.Linear(2, 2)))
    model.load_weights = lambda named_tensors: list(named_tensors)
    calls.failing, calls.vllm_config, calls.model_config = "", None, None
    calls.model_runner = SimpleNamespace(get_model=lambda: model)
    return calls


def is_adapted(worker: Any) -> bool:
    return isinstance(worker.model_runner.get_model()[0], Adapted)


class Engine:
    """Calls the worker, as vLLM's own engines do."""

    def __init__(self, worker: Any) -> None:
        self.worker = worker

    def collective_rpc(self, method: str, args: tuple[Any, ...] = ()) -> list[Any]:
        return [getattr(self.worker, method)(*args)]

    def reset_encoder_cache(self) -> None:
        return

    def reset_prefix_cache(self) -> bool:
        return True


class AsyncEngine:
    def __init__(self, worker: Any) -> None:
        self.worker = worker

    async def collective_rpc(self, method: str, args: tuple[Any, ...] = ()) -> list[Any]:
        return [getattr(self.worker, method)(*args)]

    async def nothing(self, **settings: Any) -> bool:
        return True

    pause_generation = resume_generation = reset_encoder_cache = reset_prefix_cache = nothing


def load_here(worker: Any) -> None:
    engine: Any = object.__new__(VLLM)
    engine._engine, engine._shares_process = Engine(worker), True
    engine.load_weights([("weight", torch.ones(2, 2))])


def load_in_the_server(worker: Any) -> None:
    app: Any = None
    server = VLLMServer(AsyncEngine(worker), app)
    asyncio.run(server.load_weights([]))


@pytest.mark.parametrize("load", [load_here, load_in_the_server])
@pytest.mark.parametrize("failing", ["begin", "end"])
def test_adapters_are_back_after_a_failed_update_and_after_the_next(worker: Any, failing: str, load: Any) -> None:
    worker.failing = failing
    with pytest.raises(Fault, match=failing):
        load(worker)
    assert is_adapted(worker)
    worker.failing = ""
    load(worker)
    assert is_adapted(worker)
