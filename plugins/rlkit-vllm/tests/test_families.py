"""rlkit's model families in vLLM, also in a vLLM that was started by hand."""

from __future__ import annotations

import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

PYPROJECT = Path(__file__).parents[1] / "pyproject.toml"

FAMILY = """
from rlkit.plugin import PluginKind, PluginSpec


class Family:
    vllm_models = {"ToyForCausalLM": "toy_family.vllm_model:ToyForCausalLM"}



def spec(target):
    return PluginSpec(kind=PluginKind.MODEL_FAMILY, target=target, summary="toy", architectures=("ToyForCausalLM",))


toy = spec("toy_family.family:Family")
absent = spec("toy_family.absent:Family")
"""
START = """
from vllm.plugins import load_general_plugins

load_general_plugins()
from vllm import ModelRegistry

print("ToyForCausalLM" in ModelRegistry.get_supported_archs(), "Qwen3ForCausalLM" in ModelRegistry.get_supported_archs())
"""


@pytest.mark.slow
@pytest.mark.usefixtures("vllm_on_cpu")
def test_vllm_started_by_hand_knows_the_models_of_installed_families(tmp_path: Path) -> None:
    """One family is there with its model, one cannot be imported; the latter does not keep vLLM from starting."""
    package, metadata = tmp_path / "toy_family", tmp_path / "toy_family-1.0.dist-info"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "family.py").write_text(FAMILY)
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: toy-family\nVersion: 1.0\n")
    ours = tomllib.loads(PYPROJECT.read_text())["project"]["entry-points"]["vllm.general_plugins"]
    (metadata / "entry_points.txt").write_text(
        "[rlkit.model_families]\ntoy = toy_family.family:toy\nabsent = toy_family.family:absent\n"
        "[vllm.general_plugins]\n" + "".join(f"{name} = {value}\n" for name, value in ours.items())
    )
    done = subprocess.run(
        [sys.executable, "-c", START],
        env={**os.environ, "PYTHONPATH": str(tmp_path), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=300,
        check=True,
    )
    assert done.stdout.splitlines()[-1] == "True True"
    assert "model family absent is not loaded into vLLM" in done.stderr
