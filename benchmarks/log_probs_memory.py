"""Memory and time of log-probs without the logits, against the plain formula. Forward and backward pass, on a CPU.

    python benchmarks/log_probs_memory.py [--threads 2] [--tokens 4096] [--vocabulary 151936] [--hidden 512]

Each way runs in a process of its own; memory is how far its peak rises above what it held before. `log_probs` is what
reinforcement learning uses (log-probs and entropy, a gradient for each token), `cross_entropy` what fine-tuning does.
The result goes to results/log_probs_memory.json beside this file.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from turns import versions

RESULTS = Path(__file__).parent / "results" / "log_probs_memory.json"
WAYS = ("plain", "log_probs", "cross_entropy")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])  # type: ignore[union-attr]
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--tokens", type=int, default=4096)
    parser.add_argument("--vocabulary", type=int, default=151_936)
    parser.add_argument("--hidden", type=int, default=512)
    parser.add_argument("--way", choices=WAYS, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.way:
        print(json.dumps(measure(arguments)))
        return
    ways: dict[str, Any] = {}
    for way in WAYS:
        command = [sys.executable, __file__, *sys.argv[1:], "--way", way]
        ways[way] = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
        print(way, ways[way], file=sys.stderr)
    plain = ways["plain"]
    result = {
        "ways": ways,
        "memory_of_plain_to": {way: round(plain["extra_mib"] / ways[way]["extra_mib"], 1) for way in WAYS[1:]},
        "largest_difference_of_log_prob_sums": {way: abs(ways[way]["loss"] / plain["loss"] - 1) for way in WAYS[1:]},
        "size": {"tokens": arguments.tokens, "vocabulary": arguments.vocabulary, "hidden": arguments.hidden},
        "threads": arguments.threads,
        "versions": versions("rlkit-llm", "torch"),
    }
    print(json.dumps(result, indent=2))
    RESULTS.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")


def measure(arguments: argparse.Namespace) -> dict[str, float]:
    """Extra memory, seconds and the loss of one way."""
    import torch

    from rlkit.algos.cross_entropy import summed_cross_entropy
    from rlkit.algos.log_probs import chunked_log_probs

    torch.set_num_threads(arguments.threads)
    generator = torch.Generator().manual_seed(0)
    hidden = torch.randn(arguments.tokens, arguments.hidden, generator=generator).requires_grad_()
    weight = torch.randn(arguments.vocabulary, arguments.hidden, generator=generator).mul_(0.02).requires_grad_()
    targets = torch.randint(arguments.vocabulary, (arguments.tokens,), generator=generator)
    before, start = peak_bytes(), time.perf_counter()
    if arguments.way == "plain":
        loss = -torch.log_softmax(hidden @ weight.T, dim=1).gather(1, targets[:, None]).sum()
    elif arguments.way == "log_probs":
        loss = -chunked_log_probs(hidden, weight, targets).log_probs.sum()
    else:
        loss = summed_cross_entropy(hidden, weight, targets)
    loss.backward()  # type: ignore[no-untyped-call]
    seconds = time.perf_counter() - start
    extra = (peak_bytes() - before) / 2**20
    return {"extra_mib": round(extra), "seconds": round(seconds, 1), "loss": float(loss.detach())}


def peak_bytes() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


if __name__ == "__main__":
    main()
