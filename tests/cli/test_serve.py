"""`rlkit serve` at the command line: which flag sets what."""

from __future__ import annotations

import json
from typing import Any

import pytest
from typer.testing import CliRunner

from rlkit.cli.main import app
from rlkit.testing.tiny_model import tiny_model


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The configs that would have been served."""
    found: list[Any] = []
    monkeypatch.setattr("rlkit.pipelines.serve.run_serve", lambda resolved, *, as_json: found.append(resolved.config))
    monkeypatch.setenv("RLKIT_OUTPUT", "plain")
    return found


def run(line: str) -> str:
    result = CliRunner().invoke(app, ["serve", *line.split(), "--model", str(tiny_model())], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.stdout


def test_flags_reach_the_config(served: list[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_KEY", "x")
    run(
        "--engine hf --host ::1 --port 0 --model-name m --api-key-env MY_KEY --seed 4 --device cpu --set serve.max_queue=7"
    )
    (config,) = served
    section = config.serve
    assert (section.engine, section.host, section.port, section.model_name) == ("hf", "::1", 0, "m")
    assert (section.api_key_env, section.max_queue) == ("MY_KEY", 7)
    assert (config.run.seed, config.run.device) == (4, "cpu")


def test_a_dry_run_serves_nothing(served: list[Any]) -> None:
    plan = json.loads(run("--dry-run --json --set run.device=cpu --set serve.port=8123"))
    assert plan["kind"] == "serve"
    assert plan["run"] == "http://127.0.0.1:8123"
    assert dict(plan["arithmetic"])["clients"] == "need no key"
    assert plan["peak_bytes"] > 0
    assert not served


def test_faults_are_found_before_anything_loads(served: list[Any]) -> None:
    from rlkit.errors import RLKitError

    for line, message in (
        ("--engine hff", "Did you mean 'hf'"),
        ("--api-key-env NOT_SET_ANYWHERE", "export it with the key"),
        ("--set serve.options.speed=1", r"serve\.options\.speed"),
        ("--port 99999", r"serve\.port"),
    ):
        with pytest.raises(RLKitError, match=message):
            run(line)
    assert not served
