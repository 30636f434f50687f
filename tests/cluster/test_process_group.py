"""How ranks find each other; several ranks are in tests/integration."""

from __future__ import annotations

import os
import socket
import sys

import pytest
import torch.distributed

from rlkit.cluster.process_group import (
    free_port,
    interface_of,
    join_process_group,
    keep_to_interface,
)

LINUX = pytest.mark.skipif(sys.platform != "linux", reason="network interfaces are asked for as Linux does it")


@LINUX
def test_the_interface_of_an_address_is_found_and_of_a_foreign_one_is_not() -> None:
    assert interface_of("127.0.0.1") == "lo"
    assert interface_of("localhost") == "lo"
    assert interface_of("192.0.2.1") == ""


@LINUX
def test_traffic_keeps_to_the_interface_unless_the_user_has_chosen_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "environ", dict(os.environ))  # what is set where there was nothing would stay
    monkeypatch.delenv("NCCL_SOCKET_IFNAME", raising=False)
    monkeypatch.setenv("GLOO_SOCKET_IFNAME", "eth7")
    keep_to_interface("127.0.0.1")
    assert (os.environ["GLOO_SOCKET_IFNAME"], os.environ["NCCL_SOCKET_IFNAME"]) == ("eth7", "lo")


def test_a_free_port_can_be_taken() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", free_port("127.0.0.1")))


def test_one_rank_alone_needs_no_process_group(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[object] = []
    monkeypatch.setattr(torch.distributed, "init_process_group", lambda *arguments, **options: made.append(options))
    join_process_group("file:///nowhere", rank=0, size=1, address="127.0.0.1", gpus=False, timeout_s=1.0)
    assert not made
