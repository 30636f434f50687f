"""What test_ranks.py runs in processes of their own, which can import this module because its folder is on the path."""

from __future__ import annotations

import os
import time

import torch
import torch.distributed as dist


def square_and_sum(value: float) -> tuple[int, torch.Tensor, int]:
    total = torch.tensor([value * (1 + dist.get_rank())])
    dist.all_reduce(total)
    return dist.get_rank(), total, torch.get_num_threads()


def is_alone() -> bool:
    return not dist.is_initialized()


def one_fails_the_others_wait() -> None:
    if dist.get_rank() == 1:
        raise ValueError("no luck")
    time.sleep(600)


def one_dies() -> None:
    if dist.get_rank() == 1:
        os._exit(9)
    time.sleep(600)


def wait_forever() -> None:
    time.sleep(600)
