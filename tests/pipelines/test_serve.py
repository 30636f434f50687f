"""What is decided before serving starts; the server itself is in tests/serving and tests/integration/test_serve.py."""

from __future__ import annotations

import asyncio
import socket
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import peft
import pytest
import torch
from transformers import AutoModelForCausalLM

from rlkit.config.load import load_config
from rlkit.errors import ConfigError
from rlkit.pipelines.serve import as_serving_engine, run_serve
from rlkit.serving.batched import BatchedServing
from rlkit.testing.fake_serving import FakeServingEngine
from rlkit.testing.fakes import FakeEngine, FakeTokenizer
from rlkit.testing.tiny_model import tiny_model

OWN_SERVER = """
from contextlib import asynccontextmanager


class Engine:
    def __init__(self, **context):
        raise AssertionError("an engine that brings its own server is not built")

    @classmethod
    @asynccontextmanager
    async def serve(cls, options, *, model, settings):
        print(options, model.folder.name, settings.model_name, settings.max_context)
        yield "its server"
"""


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The servers that would have been run: their folder, and that they have a socket."""
    found: list[Any] = []

    def run(opening: Any, settings: Any, listener: socket.socket, ready: Any, *, folder: Path) -> None:
        async def open_it() -> None:
            async with opening as server:
                found.append((server, folder, listener.getsockname()[0]))

        asyncio.run(open_it())
        ready("http://here")
        listener.close()

    monkeypatch.setattr("rlkit.pipelines.serve.run_engine_server", run)
    return found


@pytest.fixture(autouse=True)
def forget_modules() -> Iterator[None]:
    before = set(sys.modules)
    yield
    for name in set(sys.modules) - before:
        if "own_server" in name:
            del sys.modules[name]


def resolved(*assignments: str, **flags: Any) -> Any:
    model = {"model.path": str(tiny_model())}
    return load_config("serve", assignments=["run.device=cpu", *assignments], flags={**model, **flags}, environ={})


def test_an_engine_may_bring_its_own_server(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], served: list[Any]
) -> None:
    (tmp_path / "own_server.py").write_text(OWN_SERVER)
    run_serve(resolved("serve.port=0", f"serve.engine={tmp_path / 'own_server.py'}:Engine"))
    called, ready = capsys.readouterr().out.splitlines()
    assert served == [("its server", tiny_model(), "127.0.0.1")]
    assert ready == f"serving {tiny_model().parent.name} at http://here/v1 (Ctrl-C stops)"
    assert called == f"None model {tiny_model().parent.name} 128"


@pytest.fixture
def adapter(tmp_path: Path) -> Path:
    """A peft adapter on the tiny model."""
    base = AutoModelForCausalLM.from_pretrained(tiny_model(), dtype=torch.float32)
    adapted = peft.get_peft_model(base, peft.LoraConfig(r=2, target_modules=["q_proj"], init_lora_weights=False))
    adapted.save_pretrained(tmp_path / "adapter")
    return tmp_path / "adapter"


def test_an_adapter_s_folder_is_served_merged(adapter: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = []

    def note(app: Any, context: Any, listener: socket.socket, ready: Any) -> None:
        found.append(dict(context.engine._engine._model.named_parameters()))
        listener.close()

    monkeypatch.setattr("rlkit.pipelines.serve.run_server", note)
    run_serve(resolved("serve.port=0", **{"model.path": str(adapter)}))
    base = AutoModelForCausalLM.from_pretrained(tiny_model(), dtype=torch.float32)
    merged = peft.PeftModel.from_pretrained(base, adapter).merge_and_unload()
    for name, parameter in merged.named_parameters():
        torch.testing.assert_close(found[0][name], parameter, atol=1e-6, rtol=1e-5)


def test_a_server_of_the_engine_s_own_takes_whole_models(tmp_path: Path, adapter: Path, served: list[Any]) -> None:
    (tmp_path / "own_server.py").write_text(OWN_SERVER)
    engine = f"serve.engine={tmp_path / 'own_server.py'}:Engine"
    with pytest.raises(
        ConfigError, match=r"takes no adapter's folder .*give the merged model, or serve with engine hf"
    ):
        run_serve(resolved("serve.port=0", engine, **{"model.path": str(adapter)}))
    assert served == []


def test_an_address_that_anybody_may_reach_is_warned_about(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, served: list[Any]
) -> None:
    (tmp_path / "own_server.py").write_text(OWN_SERVER)
    engine = f"serve.engine={tmp_path / 'own_server.py'}:Engine"
    run_serve(resolved("serve.port=0", "serve.host=0.0.0.0", engine))
    assert "everybody who can reach 0.0.0.0 may ask" in capsys.readouterr().err
    monkeypatch.setenv("KEY", "k")
    run_serve(resolved("serve.port=0", "serve.host=0.0.0.0", "serve.api_key_env=KEY", engine))
    assert "everybody" not in capsys.readouterr().err


def test_a_port_in_use_is_found_before_the_model_is_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    def too_early(section: Any) -> None:
        raise AssertionError("the model was looked for first")

    monkeypatch.setattr("rlkit.pipelines.serve.locate", too_early)
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        with pytest.raises(ConfigError, match="choose another --port"):
            run_serve(resolved(f"serve.port={other.getsockname()[1]}"))


def test_engines_without_that_side_are_adapted() -> None:
    native = FakeServingEngine(FakeTokenizer())
    assert as_serving_engine(native) is native  # type: ignore[comparison-overlap]
    assert isinstance(as_serving_engine(FakeEngine()), BatchedServing)
