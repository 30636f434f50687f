"""A sandbox for others, by HTTP: `python -m rlkit.rewards.sandbox.server`. The protocol is in docs/sandbox.md."""

from __future__ import annotations

import argparse
import hmac
import ipaddress
import json
import os
import sys
import threading
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import asdict, fields
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from rlkit.errors import ConfigError, RLKitError
from rlkit.rewards.sandbox.bubblewrap import BubblewrapSandbox
from rlkit.rewards.sandbox.execution import Call, Check, Limits, Run, Task, message_of
from rlkit.rewards.sandbox.inside import plain_values

MAX_REQUEST_BYTES = 64 * 2**20
MAX_TASKS = 10_000


class SandboxServer(ThreadingHTTPServer):
    """Answers POST /run; at most `programs` of them run at once, the others wait.

    most: limits that no request can exceed. api_key: what `Authorization: Bearer` has to hold; "" lets everybody in.
    """

    daemon_threads = True
    request_queue_size = 128

    def __init__(
        self,
        address: tuple[str, int],
        *,
        most: Limits,
        programs: int,
        api_key: str = "",
        python: str = "",
        visible: Sequence[str] = (),
    ) -> None:
        self.most, self.api_key, self.python, self.visible = most, api_key, python, tuple(visible)
        self.turns = threading.BoundedSemaphore(programs)
        BubblewrapSandbox(most, python=python, visible=visible)  # refuses now rather than at the first request
        super().__init__(address, _Handler)

    def answer(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """Raises `ValueError` for a request that cannot be read, `SandboxError` when the sandbox does not start."""
        source, tasks, limits = read_request(request, self.most)
        sandbox = BubblewrapSandbox(limits, python=self.python, visible=self.visible)
        with self.turns, closing(sandbox.run(source, tasks)) as outcomes:
            return {"outcomes": [message_of(outcome) for outcome in outcomes]}


def read_request(request: Any, most: Limits) -> tuple[str, list[Task], Limits]:
    """Program, tasks and limits (never more than `most`) of a request. Raises `ValueError` with what is wrong."""
    if not isinstance(request, Mapping) or not isinstance(request.get("source"), str):
        raise ValueError("source is missing, or no text")
    messages = request.get("tasks")
    if not isinstance(messages, list) or len(messages) > MAX_TASKS:
        raise ValueError(f"tasks is missing, no list, or longer than {MAX_TASKS}")
    asked = request.get("limits", {})
    known = {field.name for field in fields(Limits)}
    if not isinstance(asked, Mapping) or not asked.keys() <= known:
        raise ValueError(f"limits is an object with any of: {', '.join(sorted(known))}")
    if not all(isinstance(value, int | float) and not isinstance(value, bool) for value in asked.values()):
        raise ValueError("a limit is no number")
    limits = Limits(**{name: min(asked.get(name, value), value) for name, value in asdict(most).items()})
    return request["source"], [_task(message) for message in messages], limits


def _task(message: Any) -> Task:
    if not isinstance(message, Mapping):
        raise ValueError("a task is no object")
    try:
        if message.get("kind") == "run":
            return Run(_text(message, "stdin"))
        if message.get("kind") == "call":
            arguments = plain_values.decode(message.get("arguments"))
            if not isinstance(arguments, list):
                raise ValueError("a task's arguments are no list")
            return Call(_text(message, "function"), tuple(arguments))
        if message.get("kind") == "check":
            return Check(_text(message, "test"), _text(message, "entry_point"), _text(message, "before"))
    except (TypeError, RecursionError) as error:
        raise ValueError(f"a task cannot be read: {error}") from error
    raise ValueError(f"a task's kind is {message.get('kind')!r}, not run, call or check")


def _text(message: Mapping[str, Any], key: str) -> str:
    value = message.get(key, "")
    if not isinstance(value, str):
        raise ValueError(f"a task's {key} is no text")
    return value


class _Handler(BaseHTTPRequestHandler):
    server: SandboxServer
    protocol_version = "HTTP/1.1"
    timeout = 120

    def do_POST(self) -> None:
        given = self.headers.get("authorization", "")
        if self.server.api_key and not hmac.compare_digest(given.encode(), f"Bearer {self.server.api_key}".encode()):
            return self._reply(401, {"error": "the key is missing or wrong"})
        if self.path != "/run":
            return self._reply(404, {"error": f"there is nothing at {self.path}; POST to /run"})
        length = self.headers.get("content-length", "")
        if not length.isdecimal() or int(length) > MAX_REQUEST_BYTES:
            return self._reply(413, {"error": f"content-length is missing or above {MAX_REQUEST_BYTES}"})
        try:
            return self._reply(200, self.server.answer(json.loads(self.rfile.read(int(length)))))
        except (ValueError, RecursionError) as error:
            return self._reply(400, {"error": str(error)})
        except RLKitError as error:
            return self._reply(503, {"error": str(error)})

    def _reply(self, status: int, content: dict[str, Any]) -> None:
        body = json.dumps(content).encode()
        self.close_connection = status != 200
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *arguments: Any) -> None:
        """Silent: a training run asks thousands of times."""


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m rlkit.rewards.sandbox.server", description=__doc__)
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on")
    parser.add_argument("--port", type=int, default=8080, help="0 takes a free one")
    parser.add_argument("--programs", type=int, default=os.cpu_count() or 1, help="how many run at once")
    parser.add_argument("--api-key-env", default="", help="environment variable with the key that clients send")
    parser.add_argument("--python", default="", help="interpreter for the programs, with its packages")
    parser.add_argument("--visible", action="append", default=[], help="a folder that programs may read; repeatable")
    for field in fields(Limits):
        kind = type(field.default)
        parser.add_argument(
            f"--{field.name.replace('_', '-')}", type=kind, default=field.default, help="the most a request may ask for"
        )
    given = parser.parse_args(arguments)
    try:
        key = os.environ.get(given.api_key_env, "") if given.api_key_env else ""
        check_reach(given.host, key, given.api_key_env)
        most = Limits(**{field.name: getattr(given, field.name) for field in fields(Limits)})
        settings = {"programs": given.programs, "api_key": key, "python": given.python, "visible": given.visible}
        with SandboxServer((given.host, given.port), most=most, **settings) as server:
            print(f"sandbox at http://{given.host}:{server.server_port}", flush=True)
            server.serve_forever()
    except KeyboardInterrupt:
        pass
    except (RLKitError, ValueError, OSError) as error:
        sys.exit(f"error: {error}")


def check_reach(host: str, key: str, variable: str) -> None:
    """Whoever can reach the server can run programs: others than this machine need a key. Raises `ConfigError`."""
    if variable and not key:
        raise ConfigError(f"--api-key-env names {variable}, which is not set; export it")
    try:
        at_home = host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        at_home = False
    if not at_home and not key:
        raise ConfigError(f"--host {host} lets others run programs here; protect it with --api-key-env VARIABLE")


if __name__ == "__main__":
    main()
