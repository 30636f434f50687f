"""What is decided before serving starts; the server itself is in tests/serving and tests/integration/test_serve.py."""

from __future__ import annotations

import socket
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from rlkit.config.load import load_config
from rlkit.errors import ConfigError
from rlkit.pipelines.serve import as_serving_engine, run_serve
from rlkit.serving.batched import BatchedServing
from rlkit.testing.fake_serving import FakeServingEngine
from rlkit.testing.fakes import FakeEngine, FakeTokenizer
from rlkit.testing.tiny_model import tiny_model

OWN_SERVER = """
class Engine:
    def __init__(self, **context):
        raise AssertionError("an engine that serves itself is not built")

    @classmethod
    def serve(cls, options, *, model, settings, listener, ready):
        listener.listen()
        ready("http://here")
        print(options, model.folder.name, settings.model_name, settings.max_context, listener.getsockname()[0])
        listener.close()
"""


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


def test_an_engine_may_bring_its_own_server(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "own_server.py").write_text(OWN_SERVER)
    run_serve(resolved("serve.port=0", f"serve.engine={tmp_path / 'own_server.py'}:Engine"))
    ready, called = capsys.readouterr().out.splitlines()
    assert ready == f"serving {tiny_model().parent.name} at http://here/v1 (Ctrl-C stops)"
    assert called == f"None model {tiny_model().parent.name} 128 127.0.0.1"


def test_an_address_that_anybody_may_reach_is_warned_about(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
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
