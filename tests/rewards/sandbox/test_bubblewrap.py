"""What programs do in the sandbox, and what is told about it."""

from __future__ import annotations

import gc
import resource
import sys
import venv
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest
from hostile_programs import open_to_all

from rlkit.errors import SandboxError
from rlkit.rewards.sandbox import BubblewrapSandbox, Call, Check, Limits, Outcome, Run, Task
from rlkit.rewards.sandbox.execution import message_of, outcome_of

ADD = """
class Box:
    def __init__(self, content): self.content = content
    def get(self): return self.content

class Solution:
    def twice(self, x): return 2 * x

def add(a, b): return a + b
def count(n): yield from range(n)
def fail(): raise KeyError("no")
"""


def outcomes(sandbox: BubblewrapSandbox, source: str, *tasks: Task) -> list[Outcome]:
    return list(sandbox.run(source, tasks))


def one(sandbox: BubblewrapSandbox, source: str, task: Task | None = None) -> Outcome:
    return outcomes(sandbox, source, task or Run())[0]


def with_limits(sandbox: BubblewrapSandbox, **limits: float) -> BubblewrapSandbox:
    return BubblewrapSandbox(replace(sandbox.limits, **limits))


class TestScripts:
    def test_input_goes_in_and_output_comes_out(self, sandbox: BubblewrapSandbox) -> None:
        source = "import sys\nprint(input()[::-1])\nprint('é', file=sys.stderr)"
        first, second = outcomes(sandbox, source, Run("abc\n"), Run("été\n"))
        assert (first.status, first.exit_code, first.stdout, first.stderr) == ("ok", 0, "cba\n", "é\n")
        assert second.stdout == "été\n"

    def test_a_large_input_and_output_pass(self, sandbox: BubblewrapSandbox) -> None:
        sandbox = with_limits(sandbox, output_kib=2048)
        text = "0123456789" * 100_000
        assert one(sandbox, "print(input())", Run(text)).stdout == text + "\n"

    def test_it_is_the_main_program(self, sandbox: BubblewrapSandbox) -> None:
        source = (
            "def f():\n    return g()\ndef g():\n    return 5\nif __name__ == '__main__':\n    print(f())\n    exit()"
        )
        assert one(sandbox, source).stdout == "5\n"

    @pytest.mark.parametrize(
        ("source", "status", "code"),
        [
            ("raise SystemExit(3)", "error", 3),
            ("1 / 0", "error", 1),
            ("def f(:", "syntax", 86),
            ("print('a')\n  print('b')", "syntax", 86),
            ("\x00", "syntax", 86),
            ("x = '\ud800'", "syntax", 86),
            ("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)", "error", -11),
            ("", "ok", 0),
        ],
    )
    def test_how_it_ended_is_told(self, sandbox: BubblewrapSandbox, source: str, status: str, code: int) -> None:
        outcome = one(sandbox, source)
        assert (outcome.status, outcome.exit_code) == (status, code)

    def test_the_last_error_can_be_read(self, sandbox: BubblewrapSandbox) -> None:
        assert one(sandbox, "int('x')").stderr.strip().endswith("invalid literal for int() with base 10: 'x'")

    def test_too_much_output_ends_it(self, sandbox: BubblewrapSandbox) -> None:
        outcome = one(sandbox, "print('x' * 200_000)")
        assert outcome.status == "output"
        assert len(outcome.stdout) <= 64 * 1024 + 65536

    def test_the_same_program_prints_the_same_set_every_time(self, sandbox: BubblewrapSandbox) -> None:
        printed = {
            outcome.stdout for outcome in outcomes(sandbox, "print({'a', 'b', 'c', 'd', 'e', 'f'})", Run(), Run())
        }
        printed.add(one(sandbox, "print({'a', 'b', 'c', 'd', 'e', 'f'})").stdout)
        assert len(printed) == 1

    def test_a_test_finds_nothing_of_the_one_before(self, sandbox: BubblewrapSandbox) -> None:
        source = (
            "import os\n"
            "print(sum(len(files) for d in ('/tmp', '/dev/shm') for _, _, files in os.walk(d)))\n"
            "os.makedirs('/tmp/a/b'); open('/tmp/a/b/c', 'w'); open('/dev/shm/x', 'w'); os.symlink('/', '/tmp/root')\n"
            "os.chmod('/tmp/a', 0)\n"
            "if os.fork() == 0:\n    import time; time.sleep(60)\n"
        )
        # Its own file is all that there is.
        assert [outcome.stdout for outcome in outcomes(sandbox, source, Run(), Run(), Run())] == ["1\n"] * 3


class TestCalls:
    @pytest.mark.parametrize(
        ("function", "arguments", "value"),
        [
            ("add", (1, 2), 3),
            ("add", ([1], [(2, {3})]), [1, (2, {3})]),
            ("add", (2**80, 1), 2**80 + 1),
            ("twice", ("ab",), "abab"),
        ],
    )
    def test_the_value_comes_back(
        self, sandbox: BubblewrapSandbox, function: str, arguments: tuple[object, ...], value: object
    ) -> None:
        outcome = one(sandbox, ADD, Call(function, arguments))
        assert (outcome.status, outcome.value) == ("ok", value)

    @pytest.mark.parametrize(
        ("function", "detail"),
        [("fail", "KeyError"), ("nothing", "NameError: name 'nothing' is not defined"), ("add", "TypeError")],
    )
    def test_an_error_is_told(self, sandbox: BubblewrapSandbox, function: str, detail: str) -> None:
        outcome = one(sandbox, ADD, Call(function, ()))
        assert outcome.status == "error"
        assert outcome.detail.startswith(detail)

    def test_an_object_is_no_value(self, sandbox: BubblewrapSandbox) -> None:
        assert one(sandbox, ADD, Call("Box", (1,))).status == "error"

    def test_a_program_that_does_not_compile_is_told_from_one_that_fails(self, sandbox: BubblewrapSandbox) -> None:
        assert one(sandbox, "def f(:", Call("f", ())).status == "syntax"
        assert one(sandbox, "1 / 0", Call("f", ())).status == "error"

    def test_arguments_that_are_no_data_are_refused_at_once(self, sandbox: BubblewrapSandbox) -> None:
        with pytest.raises(TypeError, match="not plain data"):
            one(sandbox, ADD, Call("add", (print, 1)))


class TestChecks:
    @pytest.mark.parametrize(
        "test",
        [
            "assert add(1, 2) == 3",
            "assert add(a=1, b=2) == 3",
            "box = Box([1])\nassert box.get() == [1] and box.content == [1]",
            "assert list(count(3)) == [0, 1, 2]",
            "assert Solution().twice(2) == 4",
            "try:\n    fail()\n    assert False\nexcept KeyError:\n    pass",
            "import math\nassert math.isclose(add(0.1, 0.2), 0.3)",
            "for i in range(3):\n    assert add(i, i) == 2 * i",
        ],
    )
    def test_right_programs_pass(self, sandbox: BubblewrapSandbox, test: str) -> None:
        outcome = one(sandbox, ADD, Check(test))
        assert (outcome.status, outcome.detail) == ("ok", "")

    @pytest.mark.parametrize(
        ("test", "detail"),
        [
            ("assert add(1, 2) == 4", "AssertionError"),
            ("assert add(1, 2) == 4, 'sum'", "AssertionError: sum"),
            ("assert missing(1) == 4", "NameError"),
            ("assert 1 == 1", "the test never called the program"),
            ("def check(candidate):\n    assert candidate(1, 2) == 3", "the test never called the program"),
            ("assert Box(1)", ""),
        ],
    )
    def test_others_do_not(self, sandbox: BubblewrapSandbox, test: str, detail: str) -> None:
        outcome = one(sandbox, ADD, Check(test))
        assert outcome.detail.startswith(detail)
        assert outcome.status == ("error" if detail else "ok")

    def test_a_check_function_is_called_with_the_program(self, sandbox: BubblewrapSandbox) -> None:
        test = "def check(candidate):\n    assert candidate(1, 2) == helper()\n"
        before = "def helper():\n    return 3\n\ndef add(a, b):\n    'to be done'\n"
        assert one(sandbox, ADD, Check(test, "add", before)).status == "ok"
        assert one(sandbox, ADD, Check(test + "check(add)", "add", before)).status == "ok"
        assert one(sandbox, ADD.replace("a + b", "a - b"), Check(test, "add", before)).status == "error"

    def test_a_broken_test_is_an_error_and_not_a_pass(self, sandbox: BubblewrapSandbox) -> None:
        outcome = one(sandbox, ADD, Check("def f(:"))
        assert (outcome.status, outcome.detail[:27]) == ("error", "the test failed: SyntaxErro")


def test_tasks_may_come_and_stop_as_one_likes(sandbox: BubblewrapSandbox, namespaces: set[int]) -> None:
    taken = []

    def tasks():  # type: ignore[no-untyped-def]
        for number in range(100):
            taken.append(number)
            yield Run(str(number))

    with closing(sandbox.run("print(input())", tasks())) as results:
        assert [next(results).stdout, next(results).stdout] == ["0\n", "1\n"]
    assert taken == [0, 1]
    assert len(namespaces) == 1


def test_tasks_beyond_the_time_of_all_are_timeouts(sandbox: BubblewrapSandbox) -> None:
    sandbox = with_limits(sandbox, wall_s=4.0, total_s=4.0)  # on a busy machine the program's start is a part of it
    slow = outcomes(sandbox, "import time\ntime.sleep(600)", Run(), Run(), Run())
    assert [outcome.status for outcome in slow] == ["timeout"] * 3
    assert slow[2].detail == "no time left for this task"


def test_nothing_of_the_user_is_visible(
    sandbox: BubblewrapSandbox, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("RLKIT_SECRET", "hunter2")
    (tmp_path / "secret").write_text("x")
    source = f"""
import os
print(sorted(os.environ))
print([path for path in ({str(tmp_path)!r}, {str(Path(__file__).parent)!r}, '/bin/sh', '/usr/bin', '/etc/passwd', '/var', '/mnt')
       if os.path.exists(path)])
print(os.getppid(), os.listdir(os.path.expanduser('~')), os.getcwd() == os.path.expanduser('~'))
"""
    environment, paths, rest = one(sandbox, source).stdout.splitlines()
    assert "RLKIT_SECRET" not in environment
    assert "PYTHONPATH" not in environment
    assert paths == "[]"
    assert rest == "1 ['solution.py'] True"


def test_a_folder_can_be_shown_for_reading(sandbox: BubblewrapSandbox, tmp_path: Path) -> None:
    open_to_all(tmp_path)
    (tmp_path / "words").write_text("hello")
    shown = BubblewrapSandbox(sandbox.limits, visible=[str(tmp_path)])
    path = str(tmp_path / "words")
    assert one(shown, f"print(open({path!r}).read())").stdout == "hello\n"
    assert "Read-only file system" in one(shown, f"open({path!r}, 'w')").stderr
    with pytest.raises(SandboxError, match="cannot show 'words'"):
        BubblewrapSandbox(visible=["words"])


def test_an_interpreter_brings_its_packages(sandbox: BubblewrapSandbox, tmp_path: Path) -> None:
    open_to_all(tmp_path)
    venv.create(tmp_path / "env", with_pip=False, symlinks=True)
    version = f"python{sys.version_info[0]}.{sys.version_info[1]}"
    (tmp_path / "env/lib" / version / "site-packages/extra_module.py").write_text("answer = 42")
    own = BubblewrapSandbox(sandbox.limits, python=str(tmp_path / "env/bin/python"))
    assert one(own, "import extra_module; print(extra_module.answer)").stdout == "42\n"
    assert "ModuleNotFoundError" in one(sandbox, "import extra_module").stderr


def test_what_is_no_interpreter_is_refused(works: None, tmp_path: Path) -> None:
    fake = tmp_path / "python"
    fake.write_text("#!/bin/sh\necho no >&2\nexit 1\n")
    fake.chmod(0o755)
    with pytest.raises(SandboxError, match="does not work as a Python interpreter: no"):
        BubblewrapSandbox(python=str(fake))
    with pytest.raises(SandboxError, match="no Python interpreter at 'nowhere'"):
        BubblewrapSandbox(python="nowhere")


@pytest.mark.parametrize(
    "limits", [{"wall_s": 0}, {"memory_mib": -1}, {"total_s": float("inf")}, {"cpu_s": float("nan")}]
)
def test_a_limit_that_is_none_is_refused(limits: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=f"limit {next(iter(limits))} = .* is not a positive number"):
        Limits(**limits)  # type: ignore[arg-type]


def test_an_outcome_survives_being_sent() -> None:
    outcome = Outcome("ok", None, "a", "b", (1, {2: b"x"}), "c", 0.5)
    assert outcome_of(message_of(outcome)) == outcome
    for broken in (None, [], {}, {"status": "fine"}):
        with pytest.raises(ValueError, match="not an outcome"):
            outcome_of(broken)


def test_file_descriptors_are_given_back(sandbox: BubblewrapSandbox) -> None:
    def open_files() -> set[str]:
        # What is listed is open while it is listed only.
        return {path.name for path in Path("/proc/self/fd").iterdir() if path.is_symlink()}

    one(sandbox, "print(1)")
    gc.collect()  # what other tests have left must not go in the middle of this one
    before = open_files()
    for _ in range(3):
        one(sandbox, "print(1)")
    assert open_files() <= before


def test_limits_of_the_process_that_asks_are_not_the_programs(sandbox: BubblewrapSandbox) -> None:
    before = resource.getrlimit(resource.RLIMIT_DATA)
    # Of this process, which may hold much by now, and whose other threads go on.
    held = int(Path("/proc/self/statm").read_text().split()[5]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_DATA, (held + 2**30, before[1]))
    try:
        source = "import resource; print(resource.getrlimit(resource.RLIMIT_DATA)[0] >> 20)"
        assert one(sandbox, source).stdout == f"{sandbox.limits.memory_mib}\n"
    finally:
        resource.setrlimit(resource.RLIMIT_DATA, before)
