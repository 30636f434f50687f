"""How many floating-point operations per second a device can do at best: what model FLOPs utilisation is a share of.

Known GPUs have their maker's figure for dense bfloat16 products with float32 accumulation, whatever the run computes
in. For a CPU, a part of a GPU (MIG) or a GPU that is not in the table the rate of a large matrix product is measured.
"""

from __future__ import annotations

import time
from dataclasses import dataclass

import torch

KNOWN_TFLOPS = (
    ("GB200", 2500.0),
    ("B200", 2250.0),
    ("GH200", 989.4),
    ("H200 NVL", 835.5),
    ("H200", 989.4),
    ("H100 NVL", 835.5),
    ("H100 PCIe", 756.0),
    ("H100", 989.4),
    ("H20", 148.0),
    ("A100", 312.0),
    ("A800", 312.0),
    ("A40", 149.7),
    ("A30", 165.0),
    ("A10G", 70.0),
    ("A10", 125.0),
    ("RTX A6000", 154.8),
    ("L40S", 362.05),
    ("L40", 181.05),
    ("L4", 121.0),
    ("RTX 6000 Ada", 364.2),
    ("RTX 5090", 209.5),
    ("RTX 4090", 165.2),
    ("RTX 3090", 71.0),
    ("MI300X", 1307.4),
)
"""Words of a device's name and its peak; the first entry whose words the name holds counts. Source: data sheets."""

MEASURED_SECONDS = 0.06
MATRIX_SIZE = {"cpu": 512, "cuda": 4096}


@dataclass(frozen=True)
class PeakFlops:
    """flops: operations per second; measured: a rate that was reached here, not a figure that somebody promises."""

    flops: float
    measured: bool


def peak_flops(device: str, dtype: str, *, tflops: float = 0.0) -> PeakFlops:
    """Peak of `device` ("cpu", "cuda:0"); `tflops` above 0 is taken for it. dtype: what is measured where nothing is known."""
    if tflops > 0:
        return PeakFlops(tflops * 1e12, measured=False)
    known = known_peak(torch.cuda.get_device_name(device)) if device.startswith("cuda") else None
    if known is not None:
        return PeakFlops(known, measured=False)
    return PeakFlops(measure_matmul_rate(device, dtype), measured=True)


def known_peak(device_name: str) -> float | None:
    """The table's peak in operations per second; None for a device that is not in it."""
    words = device_name.replace("-", " ").split()
    if "MIG" in words:
        return None
    for name, tflops in KNOWN_TFLOPS:
        wanted = name.split()
        if any(words[start : start + len(wanted)] == wanted for start in range(len(words))):
            return tflops * 1e12
    return None


def measure_matmul_rate(device: str, dtype: str) -> float:
    """Operations per second of the fastest of the matrix products that fit into `MEASURED_SECONDS`."""
    size = MATRIX_SIZE["cuda" if device.startswith("cuda") else "cpu"]
    # A constant needs no random numbers: a run draws the same ones whether its device is known or not.
    matrix = torch.full((size, size), 1 / size, dtype=getattr(torch, dtype), device=device)
    _timed_product(matrix)
    end = time.perf_counter() + MEASURED_SECONDS
    fastest = _timed_product(matrix)
    while time.perf_counter() < end:
        fastest = min(fastest, _timed_product(matrix))
    return 2 * size**3 / fastest


@torch.no_grad()
def _timed_product(matrix: torch.Tensor) -> float:
    _synchronise(matrix.device)
    start = time.perf_counter()
    torch.mm(matrix, matrix)
    _synchronise(matrix.device)
    return max(time.perf_counter() - start, 1e-9)


def _synchronise(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
