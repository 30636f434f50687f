"""Remote sandboxes, over real HTTP on the loopback."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from rlkit_rewards.code import Code
from rlkit_rewards.code_options import CodeOptions

from rlkit.errors import ConfigError, SandboxError, TransientRewardError
from rlkit.rewards.sandbox import Call, Check, Limits, RemoteSandbox, Run, Task
from rlkit.rewards.sandbox.server import SandboxServer, check_reach, read_request
from rlkit.types import Prompt, Sample

MOST = Limits(wall_s=20, cpu_s=20, total_s=60, memory_mib=256)
PROGRAM = "def add(a, b): return (a, b, {3})\nif __name__ == '__main__': print(input()[::-1])"
TASKS: list[Task] = [
    Run("abc\n"),
    Call("add", (1, "x")),
    Call("missing", ()),
    Check("assert add(1, 2) == (1, 2, {3})"),
    Check("assert add(1, 2) == 3"),
]
KEY = "a-key-for-tests"


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("no_proxy", "127.0.0.1")


def serve(server: ThreadingHTTPServer) -> Iterator[str]:
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture
def server(works: None) -> Iterator[str]:
    yield from serve(SandboxServer(("127.0.0.1", 0), most=MOST, programs=2, api_key=KEY))


Answer = Callable[[dict[str, Any]], tuple[int, bytes]]


@pytest.fixture
def answering() -> Iterator[Callable[[Answer], str]]:
    """Function: a server that answers every POST as the given function says; returns its address."""
    running: list[Iterator[str]] = []

    def start(answer: Answer) -> str:
        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["content-length"])))
                status, reply = answer({**body, "path": self.path})
                self.send_response(status)
                self.send_header("content-length", str(len(reply)))
                if status == 302:
                    self.send_header("location", "http://127.0.0.1:1/elsewhere")
                self.end_headers()
                self.wfile.write(reply)

            def log_message(self, format: str, *arguments: Any) -> None: ...

        running.append(serve(ThreadingHTTPServer(("127.0.0.1", 0), Handler)))
        return next(running[-1])

    yield start
    for server in running:
        next(server, None)


def test_a_server_of_ours_does_what_the_sandbox_does(server: str) -> None:
    run, call, missing, right, wrong = RemoteSandbox(server, MOST, api_key=KEY).run(PROGRAM, TASKS)
    assert (run.status, run.stdout) == ("ok", "cba\n")
    assert (call.status, call.value) == ("ok", (1, "x", {3}))
    assert (missing.status, missing.detail) == ("error", "NameError: name 'missing' is not defined")
    assert (right.status, wrong.status) == ("ok", "error")


def test_a_wrong_key_is_refused_and_never_shown(server: str) -> None:
    with pytest.raises(SandboxError, match="answered 401") as refused:
        list(RemoteSandbox(server, MOST, api_key="sesame").run("", [Run()]))
    assert "sesame" not in str(refused.value)


def test_the_code_reward_takes_a_remote_sandbox(server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SANDBOX_KEY", KEY)
    reward = Code(CodeOptions(sandbox="remote", url=server, api_key_env="SANDBOX_KEY"))
    answers = ["```python\nprint(int(input()) + 1)\n```", "```python\nprint(int(input()))\n```"]
    tests = {"inputs": ["1\n", "2\n"], "outputs": ["2\n", "3\n"]}
    rewards = reward([Sample(Prompt(0, text="q", reference=tests), answer) for answer in answers])
    assert [reward.score for reward in rewards] == [1.0, 0.0]


def test_requests_cannot_exceed_the_limits_of_the_server() -> None:
    asked = {"source": "", "tasks": [], "limits": {"memory_mib": 10**6, "wall_s": 1}}
    _, _, limits = read_request(asked, MOST)
    assert (limits.memory_mib, limits.wall_s, limits.total_s) == (256, 1, 60)


@pytest.mark.parametrize(
    ("request_", "said"),
    [
        ([], "source is missing"),
        ({"source": 1}, "source is missing"),
        ({"source": ""}, "tasks is missing"),
        ({"source": "", "tasks": [1]}, "a task is no object"),
        ({"source": "", "tasks": [{"kind": "shell"}]}, "kind is 'shell', not run, call or check"),
        ({"source": "", "tasks": [{"kind": "run", "stdin": 1}]}, "stdin is no text"),
        ({"source": "", "tasks": [{"kind": "call", "function": "f", "arguments": {"h": 1}}]}, "cannot be read"),
        ({"source": "", "tasks": [], "limits": {"root": True}}, "limits is an object with any of: cpu_s"),
        ({"source": "", "tasks": [], "limits": {"wall_s": "1"}}, "a limit is no number"),
        ({"source": "", "tasks": [], "limits": {"wall_s": -1}}, "not a positive number"),
    ],
)
def test_a_request_that_cannot_be_read_is_refused_with_the_reason(request_: Any, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        read_request(request_, MOST)


@pytest.mark.parametrize(
    ("status", "reply", "error", "said"),
    [
        (503, b'{"error": "full"}', TransientRewardError, "answered 503 Service Unavailable: .*full"),
        (429, b"", TransientRewardError, "answered 429"),
        (400, b'{"error": "no"}', SandboxError, "answered 400 Bad Request: .*no"),
        (302, b"", SandboxError, "answered 302"),
        (200, b"<html>", SandboxError, "sent no JSON: b'<html>'"),
        (200, b'{"outcomes": []}', SandboxError, "did not send one outcome for each of 1 tasks"),
        (200, b'{"outcomes": [{"status": "great"}]}', SandboxError, "outcome that cannot be read"),
    ],
)
def test_faults_of_a_server_are_sorted(
    answering: Callable[[Answer], str], status: int, reply: bytes, error: type[Exception], said: str
) -> None:
    url = answering(lambda _: (status, reply))
    with pytest.raises(error, match=said):
        list(RemoteSandbox(url).run("", [Run()]))


def test_a_server_that_is_not_there_may_be_there_later() -> None:
    with pytest.raises(TransientRewardError, match="did not answer"):
        list(RemoteSandbox("http://127.0.0.1:9").run("", [Run()]))


def sandbox_fusion(request: dict[str, Any]) -> tuple[int, bytes]:
    """A stand-in for SandboxFusion, which runs (harmless) scripts in a process."""
    assert request["path"] == "/run_code"
    assert request["language"] == "python"
    status, code, out, err = "Finished", None, "", ""
    try:
        done = subprocess.run(
            [sys.executable, "-c", request["code"]],
            input=request["stdin"],
            capture_output=True,
            text=True,
            timeout=request["run_timeout"],
        )
        code, out, err = done.returncode, done.stdout, done.stderr
    except subprocess.TimeoutExpired:
        status = "TimeLimitExceeded"
    result = {"status": status, "execution_time": 0.1, "return_code": code, "stdout": out, "stderr": err}
    whole = "Success" if code == 0 else "Failed"
    return 200, json.dumps({"status": whole, "message": "", "run_result": result, "files": {}}).encode()


def can_hide() -> bool:
    """The judge in a foreign sandbox hides by ctypes, which some builds of Python lack."""
    return subprocess.run([sys.executable, "-c", "import ctypes"], capture_output=True, check=False).returncode == 0


class TestSandboxFusion:
    def test_scripts_run_as_they_are(self, answering: Callable[[Answer], str]) -> None:
        remote = RemoteSandbox(answering(sandbox_fusion), Limits(wall_s=20), protocol="sandbox_fusion")
        assert [outcome.stdout for outcome in remote.run("print(input()[::-1])", [Run("ab"), Run("xy")])] == [
            "ba\n",
            "yx\n",
        ]
        assert [outcome.status for outcome in remote.run("1 / 0", [Run()])] == ["error"]
        assert [outcome.status for outcome in remote.run("def f(:", [Run()])] == ["syntax"]

    def test_a_script_out_of_time_is_told(self, answering: Callable[[Answer], str]) -> None:
        remote = RemoteSandbox(answering(sandbox_fusion), Limits(wall_s=0.5), protocol="sandbox_fusion")
        assert [outcome.status for outcome in remote.run("while True: pass", [Run()])] == ["timeout"]

    def test_calls_and_checks_bring_their_judge(self, answering: Callable[[Answer], str]) -> None:
        remote = RemoteSandbox(answering(sandbox_fusion), Limits(wall_s=30), protocol="sandbox_fusion")
        outcomes = list(remote.run(PROGRAM, TASKS[1:]))
        if not can_hide():
            assert {outcome.status for outcome in outcomes} == {"killed"}
            assert "built without ctypes" in outcomes[0].detail
            return
        assert [outcome.status for outcome in outcomes] == ["ok", "error", "ok", "error"]
        assert outcomes[0].value == (1, "x", {3})

    def test_its_own_errors_are_tried_again(self, answering: Callable[[Answer], str]) -> None:
        url = answering(lambda _: (200, b'{"status": "SandboxError", "message": "no workers"}'))
        with pytest.raises(TransientRewardError, match="no workers"):
            list(RemoteSandbox(url, protocol="sandbox_fusion").run("", [Run()]))

    def test_another_protocol_is_told(self, answering: Callable[[Answer], str]) -> None:
        url = answering(lambda _: (200, b'{"ok": 1}'))
        with pytest.raises(SandboxError, match="does not speak SandboxFusion's protocol"):
            list(RemoteSandbox(url, protocol="sandbox_fusion").run("", [Run()]))


def test_a_server_that_others_can_reach_needs_a_key() -> None:
    for host in ("127.0.0.1", "::1", "localhost"):
        check_reach(host, "", "")
    check_reach("0.0.0.0", KEY, "SANDBOX_KEY")
    with pytest.raises(ConfigError, match="protect it with --api-key-env"):
        check_reach("0.0.0.0", "", "")
    with pytest.raises(ConfigError, match="names SANDBOX_KEY, which is not set"):
        check_reach("127.0.0.1", "", "SANDBOX_KEY")


@pytest.mark.slow
def test_the_server_starts_as_the_page_says(works: None, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "rlkit.rewards.sandbox.server", "--port", "0", "--api-key-env", "SANDBOX_KEY"]
    environment = {**os.environ, "SANDBOX_KEY": KEY}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment, cwd=tmp_path) as server:
        try:
            assert server.stdout is not None
            url = server.stdout.readline().split()[-1]
            assert [o.stdout for o in RemoteSandbox(url, MOST, api_key=KEY).run("print(7)", [Run()])] == ["7\n"]
        finally:
            server.terminate()
