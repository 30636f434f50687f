"""The ranks of one model find each other: torch.distributed, gloo on CPUs and nccl on GPUs."""

from __future__ import annotations

import os
import socket
import struct
from datetime import timedelta

SIOCGIFADDR = 0x8915
"""Linux: ask a network interface for its address."""


def join_process_group(rendezvous: str, *, rank: int, size: int, address: str, gpus: bool, timeout_s: float) -> None:
    """Make this process rank `rank` of `size`; alone it needs no torch.distributed.

    rendezvous  `file://...` or `tcp://host:port`, the same on all ranks; empty: torchrun's ranks have joined already
    address     of this machine, as the other ranks reach it: the traffic keeps to the interface that has it
    timeout_s   after which a rank that waits for the others gives up
    """
    if size == 1 or not rendezvous:
        return
    import torch.distributed

    keep_to_interface(address)
    torch.distributed.init_process_group(
        "cpu:gloo,cuda:nccl" if gpus else "gloo",
        init_method=rendezvous,
        rank=rank,
        world_size=size,
        timeout=timedelta(seconds=timeout_s),
    )


def leave_process_group() -> None:
    """Nothing where none was joined."""
    import torch.distributed

    if torch.distributed.is_available() and torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()


def keep_to_interface(address: str) -> None:
    """Tell gloo and nccl which interface to use, unless the user has: the one with `address`, where the system tells."""
    name = interface_of(address)
    if name:
        os.environ.setdefault("GLOO_SOCKET_IFNAME", name)
        os.environ.setdefault("NCCL_SOCKET_IFNAME", name)


def interface_of(address: str) -> str:
    """Name of the network interface that has the IPv4 `address`; empty where none has, or nobody tells."""
    try:
        import fcntl

        wanted = socket.inet_aton(socket.gethostbyname(address))
    except (ImportError, OSError):
        return ""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        for _, name in socket.if_nameindex():
            request = struct.pack("256s", name.encode()[:15])
            try:
                answer = fcntl.ioctl(probe.fileno(), SIOCGIFADDR, request)
            except OSError:
                continue  # it has no IPv4 address
            if answer[20:24] == wanted:
                return name
    return ""


def free_port(address: str) -> int:
    """A TCP port of this machine that nobody uses at the moment."""
    with socket.socket() as probe:
        probe.bind((address, 0))
        return int(probe.getsockname()[1])
