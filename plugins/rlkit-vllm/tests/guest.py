"""Run by test_side_effects.py in a process of its own: an engine's life, and what the process looked like meanwhile."""

from __future__ import annotations

import contextlib
import json
import logging
import multiprocessing
import os
import random
import signal
import sys
import time
from pathlib import Path
from typing import Any

import numpy
import psutil
import torch

from rlkit.models.registry import find_family
from rlkit.models.safetensors_io import stream_tensors
from rlkit.models.tokenizer import load_tokenizer
from rlkit.plugin import PluginKind
from rlkit.plugin.loader import build_plugin
from rlkit.rollout.engine_model import EngineModel
from rlkit.types import Prompt, PromptBatch, SamplingParams

GRACE_S = 60.0
"""How long an ended process may still be visible."""


def process_state() -> dict[str, Any]:
    """What vLLM might change. Drawing a number shows the state of a generator, and puts it back."""
    python, numbers, tensors = random.getstate(), numpy.random.get_state(), torch.get_rng_state()
    drawn = [random.random(), float(numpy.random.rand()), float(torch.rand(()))]
    random.setstate(python)
    numpy.random.set_state(numbers)
    torch.set_rng_state(tensors)
    root = logging.getLogger()
    return {
        "drawn": drawn,
        "threads": [torch.get_num_threads(), torch.set_num_threads.__name__],
        "matmul": torch.get_float32_matmul_precision(),
        "dtype": str(torch.get_default_dtype()),
        "grad": torch.is_grad_enabled(),
        "signals": [str(signal.getsignal(number)) for number in (signal.SIGINT, signal.SIGTERM)],
        "logging": [str(root.handlers), root.level, str(logging.getLogRecordFactory())],
        "start_method": multiprocessing.get_start_method(allow_none=True),
        "excepthook": str(sys.excepthook),
        "folder": str(Path.cwd()),
    }


def main(folder: Path, other: Path, options: dict[str, Any]) -> None:
    # What transformers and the family do when they are first used is not vLLM's doing.
    model = EngineModel(folder, find_family(folder), load_tokenizer(folder), "float32", "cpu", False, 0)
    torch.set_num_threads(1)
    torch.manual_seed(5)
    numpy.random.seed(5)
    random.seed(5)
    environment, before = dict(os.environ), process_state()
    engine = build_plugin(PluginKind.ROLLOUT_ENGINE, "vllm", options, where="options", model=model)
    prompts = PromptBatch((Prompt(row_id=1), Prompt(row_id=2)), ((7, 8, 9), (10, 11)))

    def answers(temperature: float) -> list[list[int]]:
        rollouts = engine.generate(prompts, SamplingParams(max_tokens=8, samples=2, temperature=temperature, seed=4))
        return [row.tolist() for row in rollouts.response_ids.rows()]

    first = answers(1.0) + answers(0.0)
    engine.update_weights(stream_tensors(other), 1)
    second = answers(1.0) + answers(0.0)
    engine.update_weights(stream_tensors(folder), 2)
    assert answers(1.0) + answers(0.0) == first
    while_running = process_state()
    running = len(children())
    engine.close()
    deadline = time.monotonic() + GRACE_S
    while children() and time.monotonic() < deadline:
        time.sleep(0.1)
    report = {
        "before": before,
        "while_running": while_running,
        "after": process_state(),
        "new_environment": sorted(set(os.environ) - set(environment)),
        "changed_environment": sorted(name for name, value in environment.items() if os.environ.get(name) != value),
        "processes_while_running": running,
        "children": children(),
        "answers": first,
        "other_answers": second,
    }
    print(json.dumps(report))


def children() -> list[str]:
    """Names of running processes that this one started, without Python's own resource tracker."""
    multiprocessing.active_children()  # reaps those that have ended
    found = []
    for child in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.NoSuchProcess):
            line = " ".join(child.cmdline())
            if child.status() != psutil.STATUS_ZOMBIE and "resource_tracker" not in line:
                found.append(line)
    return found


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), json.loads(sys.argv[3]))
