from __future__ import annotations

import gc
import sys

import numpy as np
import pytest

from rlkit.trainers import memory_metrics as module
from rlkit.trainers.memory_metrics import memory_metrics

SIZE = 64 * 2**20


@pytest.mark.skipif(sys.platform != "linux", reason="the operating system does not tell")
def test_present_memory_rises_and_falls_and_the_peak_stays():
    gc.collect()  # what other tests have left must not go in the middle of this one
    before = memory_metrics()
    block = np.ones(SIZE, dtype=np.uint8)
    during = memory_metrics()
    del block
    after = memory_metrics()
    assert during["memory/process_bytes"] - before["memory/process_bytes"] > 0.9 * SIZE
    assert during["memory/process_bytes"] - after["memory/process_bytes"] > 0.9 * SIZE
    assert after["memory/process_peak_bytes"] >= during["memory/process_bytes"] * 0.98


def test_what_the_system_does_not_tell_is_left_out(monkeypatch, tmp_path):
    monkeypatch.setattr(module, "STATUS", tmp_path / "none")
    assert "memory/process_bytes" not in memory_metrics()
    assert memory_metrics()["memory/process_peak_bytes"] > 2**20
