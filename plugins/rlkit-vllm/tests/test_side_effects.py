"""vLLM is a guest in a training process: what belongs to the process is as it was, and nothing is left when it goes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("vllm_on_cpu")]

GUEST = Path(__file__).with_name("guest.py")


def as_guest(folder: Path, other: Path, environment: dict[str, str], options: dict[str, Any]) -> dict[str, Any]:
    """What `guest.py` reported, and all that was said besides."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("VLLM_")}
    done = subprocess.run(
        [sys.executable, str(GUEST), str(folder), str(other), json.dumps(options)],
        env={**inherited, "OMP_NUM_THREADS": "1", **environment},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    *said, report = done.stdout.splitlines()
    parsed: dict[str, Any] = json.loads(report)
    return parsed | {"said": [line for line in [*said, *done.stderr.splitlines()] if line.strip()]}


@pytest.fixture(scope="module")
def inside(model_folder: Path, other_folder: Path) -> dict[str, Any]:
    return as_guest(model_folder, other_folder, {}, {})


def test_the_process_is_as_it_was(inside: dict[str, Any]) -> None:
    assert inside["before"] == inside["while_running"] == inside["after"]


def test_only_its_own_environment_variables_are_new(inside: dict[str, Any]) -> None:
    assert all(name.startswith("VLLM_") for name in inside["new_environment"])
    assert inside["changed_environment"] == []


def test_no_process_is_left(inside: dict[str, Any]) -> None:
    assert inside["children"] == []


def test_a_start_that_goes_well_says_nothing(inside: dict[str, Any]) -> None:
    assert [line for line in inside["said"] if "NUMA binding" not in line] == []  # that one comes from C++


def test_the_users_own_settings_win(model_folder: Path, other_folder: Path) -> None:
    """His logging configuration speaks, and his VLLM_ENABLE_V1_MULTIPROCESSING puts the engine into a process of its own."""
    own = {"VLLM_CONFIGURE_LOGGING": "1", "VLLM_LOGGING_LEVEL": "INFO", "VLLM_ENABLE_V1_MULTIPROCESSING": "1"}
    report = as_guest(model_folder, other_folder, own, {})
    assert report["changed_environment"] == []
    assert any("Initializing a V1 LLM engine" in line for line in report["said"])
    assert report["processes_while_running"] > 0
    assert report["children"] == []


def test_weights_reach_an_engine_in_other_processes(
    inside: dict[str, Any], model_folder: Path, other_folder: Path
) -> None:
    """Two workers, each with its part of every layer: the same answers as one, before and after an update."""
    apart = as_guest(model_folder, other_folder, {}, {"tensor_parallel_size": 2})
    assert apart["processes_while_running"] >= 2
    assert apart["answers"] == inside["answers"]
    assert apart["other_answers"] == inside["other_answers"] != inside["answers"]
    assert apart["children"] == []
