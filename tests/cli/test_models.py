from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from rlkit.cli.models import models_app
from rlkit.errors import ModelError
from rlkit.tracking.checkpoints import CheckpointStore


def invoke(*arguments: str) -> str:
    result = CliRunner().invoke(models_app, list(arguments), catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


def make(folder: Path, *more: str) -> str:
    return invoke("create", str(folder), "--family", "qwen3", "--tokenizer", "char", "--alphabet", "0123456789", *more)


def as_json(*arguments: str) -> Any:
    return json.loads(invoke(*arguments, "--json"))


def test_create_inspect_and_export_belong_together(tmp_path: Path) -> None:
    text = make(tmp_path / "m", "--set", "hidden_size=32", "--set", "tie_word_embeddings=false")
    assert "Qwen3ForCausalLM" in text
    assert "hidden 32" in text
    seen = as_json("inspect", str(tmp_path / "m"))
    assert (seen["family"], seen["hidden_size"], seen["tied_embeddings"]) == ("qwen3", 32, False)
    assert seen["tokenizer"]["has_chat_template"] is True
    assert sum(seen["parameters_by_part"].values()) == seen["num_parameters"]
    exported = as_json("export", str(tmp_path / "m"), str(tmp_path / "out"), "--dtype", "bfloat16")
    assert exported["dtype"] == "bfloat16"
    assert exported["num_parameters"] == seen["num_parameters"]


def test_a_step_of_a_run_may_be_exported(tmp_path: Path) -> None:
    make(tmp_path / "m")
    store = CheckpointStore(tmp_path / "run" / "checkpoints")
    for step in (3, 6):
        store.write(step, lambda folder: shutil.copytree(tmp_path / "m", folder / "model"))
    assert "Qwen3" in invoke("export", str(tmp_path / "run"), str(tmp_path / "out"), "--step", "3")
    with pytest.raises(ModelError, match="exists and is not empty"):
        invoke("export", str(tmp_path / "run"), str(tmp_path / "out"), "--step", "last")
    with pytest.raises(ModelError, match="holds no adapter"):
        invoke("export", str(tmp_path / "run"), str(tmp_path / "other"), "--adapter-only")


def test_a_malformed_assignment_is_explained(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="'hidden_size' is not KEY=VALUE"):
        make(tmp_path / "m", "--set", "hidden_size")


def test_inspect_imports_neither_torch_nor_transformers(tmp_path: Path) -> None:
    make(tmp_path / "m")
    code = (
        "import sys; from typer.testing import CliRunner; from rlkit.cli.models import models_app; "
        f"result = CliRunner().invoke(models_app, ['inspect', {str(tmp_path / 'm')!r}]); "
        "sys.exit(result.exit_code or bool({'torch', 'transformers', 'numpy'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize("command", ["create", "inspect", "export"])
def test_help_is_light(command: str) -> None:
    assert "Usage" in invoke(command, "--help")
    code = "import sys, rlkit.cli.models; sys.exit(bool({'torch', 'transformers', 'pydantic', 'numpy'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
