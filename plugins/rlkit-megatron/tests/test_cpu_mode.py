"""megatron-core without CUDA: asked for by the device only, nothing where CUDA exists, complete for this release."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch
from rlkit_megatron import cpu_mode

from rlkit.errors import ConfigError


def run(code: str) -> str:
    """In a process of its own: the mode is for good."""
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_importing_the_plugin_changes_nothing():
    assert (
        run(
            "import torch, rlkit_megatron.plugin, rlkit_megatron.options, rlkit_megatron.cpu_mode as mode\n"
            "print(mode.is_entered(), torch.cuda.current_device.__module__)"
        )
        == "False torch.cuda"
    )


def test_where_cuda_exists_it_is_refused_and_changes_nothing(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    before = torch.cuda.synchronize
    with pytest.raises(ConfigError, match="CUDA_VISIBLE_DEVICES="):
        cpu_mode.enter_cpu_mode()
    assert torch.cuda.synchronize is before


def test_types_are_named_as_on_cuda_for_a_moment_only(monkeypatch):
    monkeypatch.setattr(cpu_mode, "_entered", True)
    with cpu_mode.named_as_on_cuda():
        assert torch.zeros(1).type() == "torch.cuda.FloatTensor"
        assert torch.zeros(1).type(torch.int64).dtype == torch.int64
    assert torch.zeros(1).type() == "torch.FloatTensor"


@pytest.mark.slow
def test_stand_ins_of_another_library_give_way_to_those_that_megatron_needs():
    """vLLM's, which come with it and have no events."""
    code = """
import torch
from rlkit_megatron.cpu_mode import enter_cpu_mode
enter_cpu_mode()
class Stream:
    record_event = lambda self: None
torch.cuda.Stream, torch.cuda.current_stream = Stream, lambda: Stream()
enter_cpu_mode()
for stream in (torch.cuda.Stream(), torch.cuda.current_stream()):
    stream.record_event().synchronize()
    print(stream.query(), stream.device)
"""
    assert run(code) == "True cpu\nTrue cpu"


@pytest.mark.slow
def test_contexts_that_choose_a_device_go_on_working():
    """transformers builds its models in one, and would get wrong buffers."""
    code = """
import torch
from rlkit_megatron.cpu_mode import enter_cpu_mode
enter_cpu_mode()
with torch.device("meta"):
    print({make(2).device.type for make in (torch.zeros, torch.ones, torch.empty, torch.arange)})
print(torch.zeros(1, device="cuda").device, torch.tensor([1.0]).cuda().device)
"""
    assert run(code) == "{'meta'}\ncpu cpu"


REACHES = """
import sys, warnings
warnings.simplefilter("ignore")
import torch
from rlkit_megatron.cpu_mode import enter_cpu_mode
def lazy_init(): raise AssertionError("CUDA is reached")
enter_cpu_mode()
torch.cuda._lazy_init = lazy_init
from dataclasses import replace
from pathlib import Path
from rlkit.testing.rank_cases import RankCase, train
model = Path(sys.argv[1])
for kind in ("supervised", "ppo", "actor_critic", "moving_reference"):
    train(RankCase(kind, model, ((),), backend="megatron", steps=2, micro_batch_tokens=12, gradient_checkpointing=True))
print("done")
"""


@pytest.mark.slow
@pytest.mark.parametrize("model_type", ["qwen3", "qwen3_moe"])
def test_no_training_reaches_cuda_by_a_way_that_is_not_known(model_folder, model_type):
    """Fails with a release of megatron-core that calls CUDA from somewhere else: `REACHES` says where in its traceback."""
    folder = model_folder(model_type)
    done = subprocess.run(
        [sys.executable, "-c", REACHES, str(folder)], capture_output=True, text=True, check=False, timeout=300
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.split()[-1] == "done"
