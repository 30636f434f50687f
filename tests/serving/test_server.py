"""The socket; the process with its signals is in tests/integration/test_serve.py."""

from __future__ import annotations

import socket

import pytest

from rlkit.errors import ConfigError
from rlkit.serving.server import bind, url_of


def test_port_zero_is_a_free_one() -> None:
    with bind("127.0.0.1", 0) as first, bind("127.0.0.1", 0) as second:
        assert first.getsockname()[1] != second.getsockname()[1] != 0
        assert url_of(first) == f"http://127.0.0.1:{first.getsockname()[1]}"


def test_nobody_can_connect_before_the_model_is_there() -> None:
    with bind("127.0.0.1", 0) as listener, pytest.raises(ConnectionRefusedError):
        socket.create_connection(listener.getsockname(), timeout=60)


def test_a_port_in_use_is_a_user_s_error() -> None:
    with bind("127.0.0.1", 0) as first:
        first.listen()
        port = first.getsockname()[1]
        with pytest.raises(ConfigError, match=rf"serve\.port = {port} .*choose another --port"):
            bind("127.0.0.1", port)


@pytest.mark.parametrize("host", ["no.such.host.invalid", "300.1.2.3"])
def test_a_host_that_is_none(host: str) -> None:
    with pytest.raises(ConfigError, match=r"serve\.host = .*127\.0\.0\.1"):
        bind(host, 0)


def test_a_url_of_ipv6_has_brackets() -> None:
    with socket.socket(socket.AF_INET6) as listener:
        try:
            listener.bind(("::1", 0))
        except OSError:
            pytest.skip("no IPv6 here")
        assert url_of(listener).startswith("http://[::1]:")
