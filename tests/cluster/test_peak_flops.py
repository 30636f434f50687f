from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

from rlkit.cluster import peak_flops as module
from rlkit.cluster.peak_flops import known_peak, measure_matmul_rate, peak_flops


@pytest.mark.parametrize(
    ("name", "tflops"),
    [
        ("NVIDIA H200", 989.4),
        ("NVIDIA H200 NVL", 835.5),
        ("NVIDIA H100 80GB HBM3", 989.4),
        ("NVIDIA H100 PCIe", 756.0),
        ("NVIDIA A100-SXM4-80GB", 312.0),
        ("NVIDIA A10G", 70.0),
        ("NVIDIA A10", 125.0),
        ("NVIDIA L4", 121.0),
        ("NVIDIA L40S", 362.05),
        ("NVIDIA GeForce RTX 4090", 165.2),
        ("AMD Instinct MI300X", 1307.4),
    ],
)
def test_known_devices_by_the_names_that_drivers_give_them(name, tflops):
    assert known_peak(name) == tflops * 1e12


@pytest.mark.parametrize("name", ["NVIDIA A100-SXM4-80GB MIG 1g.10gb", "Tesla T4", "NVIDIA L400", ""])
def test_a_part_of_a_device_and_an_unknown_one_have_no_figure(name):
    assert known_peak(name) is None


def test_a_cpu_is_measured_and_says_so():
    peak = peak_flops("cpu", "float32")
    assert peak.measured
    assert 1e8 < peak.flops < 1e15


def test_a_rate_is_that_of_the_fastest_product(monkeypatch):
    seconds = iter([9.0, 0.5, 0.25, 0.5])  # the first one only warms up
    clock = iter([0.0, 0.01, 0.02, 1.0])
    monkeypatch.setattr(module, "_timed_product", lambda matrix: next(seconds))
    monkeypatch.setattr(module, "time", SimpleNamespace(perf_counter=lambda: next(clock)))
    assert measure_matmul_rate("cpu", "float32") == 2 * 512**3 / 0.25


def test_a_figure_from_the_config_is_taken_as_it_is(monkeypatch):
    monkeypatch.setattr(module, "measure_matmul_rate", lambda *_: pytest.fail("measured"))
    peak = peak_flops("cpu", "float32", tflops=0.5)
    assert (peak.flops, peak.measured) == (0.5e12, False)


def test_measuring_draws_no_random_numbers():
    before = torch.random.get_rng_state()
    measure_matmul_rate("cpu", "float32")
    assert torch.equal(torch.random.get_rng_state(), before)
