"""What a sandbox is asked to do, and what it answers."""

from __future__ import annotations

from collections.abc import Generator, Iterable
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal, Protocol, get_args

from rlkit.rewards.sandbox.inside import plain_values

Status = Literal["ok", "error", "syntax", "timeout", "output", "memory", "killed"]
"""ok: the script ended with 0, the function returned, the test code went through. error: it did not. syntax: the program
is not Python. timeout, output, memory: it went over a limit. killed: the sandbox ended, by the program's doing."""

STATUSES: tuple[Status, ...] = get_args(Status)


@dataclass(frozen=True)
class Limits:
    """What one program may use. The machine's own limits hold as well.

    wall_s      seconds of one task; those in which it was ready to run and had to wait for a core do not count
    cpu_s       CPU seconds of one process; once all together have had them, waiting counts as well
    total_s     seconds of all tasks of a program together, waiting included; those that are left are timeouts
    memory_mib  address space of one process, and memory of all processes together (looked at every 50 ms)
    processes   processes and threads at once
    file_mib    size of one file
    tmp_mib     size of /tmp, which is in memory; half of it again for /dev/shm
    output_kib  what is read of the standard output, and of the standard error
    """

    wall_s: float = 10.0
    cpu_s: float = 10.0
    total_s: float = 60.0
    memory_mib: int = 1024
    processes: int = 16
    file_mib: int = 16
    tmp_mib: int = 64
    output_kib: int = 1024

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if not 0 < value < float("inf"):
                raise ValueError(f"the sandbox's limit {field.name} = {value} is not a positive number")


@dataclass(frozen=True)
class Run:
    """Run the program as a script with this standard input."""

    stdin: str = ""

    def message(self) -> dict[str, Any]:
        return {"kind": "run", "stdin": self.stdin}


@dataclass(frozen=True)
class Call:
    """Call one function of the program (or method of its class `Solution`) with plain arguments.

    Raises `NotPlainError`, a TypeError, when an argument is not plain data (numbers, text, bytes, lists, tuples, sets,
    dicts, None).
    """

    function: str
    arguments: tuple[Any, ...]

    def message(self) -> dict[str, Any]:
        arguments = plain_values.encode(list(self.arguments))
        return {"kind": "call", "function": self.function, "arguments": arguments}


@dataclass(frozen=True)
class Check:
    """Run test code (asserts) against the program's functions, which are called in another process.

    test         the code; names in it that are defined nowhere are the program's
    entry_point  the function that `candidate` means; a `check(candidate)` that the code defines is called with it
    before       code that the tests may need, such as the helpers in a data set's prompt
    """

    test: str
    entry_point: str = ""
    before: str = ""

    def message(self) -> dict[str, Any]:
        return {"kind": "check", "test": self.test, "entry_point": self.entry_point, "before": self.before}


Task = Run | Call | Check


@dataclass(frozen=True)
class Outcome:
    """What became of one task.

    exit_code       of a script; minus the signal's number when one ended it; None for calls and checks
    stdout, stderr  of a script, broken UTF-8 replaced; cut at the limit
    value           what a called function returned, made of exact built-in types
    detail          one line on what went wrong, or ""
    wall_s          seconds; waited_s: of these, ready to run and without a core
    cpu_s           CPU seconds of all its processes, as far as they were seen
    """

    status: Status
    exit_code: int | None = None
    stdout: str = ""
    stderr: str = ""
    value: Any = None
    detail: str = ""
    wall_s: float = 0.0
    waited_s: float = 0.0
    cpu_s: float = 0.0


class Sandbox(Protocol):
    """Runs programs apart from everything else. One object may be used by several threads."""

    limits: Limits

    def run(self, source: str, tasks: Iterable[Task]) -> Generator[Outcome, None, None]:
        """One outcome for each task, in order, each when it is there: who has seen enough closes the generator.

        Raises `SandboxError` when programs cannot be run at all, `TransientRewardError` when the machine is too busy to
        tell a slow program from one that was kept waiting, or a remote sandbox does not answer; what a program does never
        raises.
        """
        ...

    def close(self) -> None:
        """Release what the sandbox holds."""
        ...


def outcome_of(message: Any) -> Outcome:
    """The outcome that a message of the runner or of a server describes. Raises `ValueError` when it describes none."""
    if not isinstance(message, dict) or message.get("status") not in STATUSES:
        raise ValueError("not an outcome")
    status = message["status"]
    value = None
    if status == "ok" and "value" in message:
        try:
            value = plain_values.decode(message["value"])
        except (TypeError, RecursionError) as error:
            return Outcome("error", detail=f"its value cannot be read: {error}")
    exit_code = message.get("exit_code")
    return Outcome(
        status,
        exit_code if isinstance(exit_code, int) else None,
        str(message.get("stdout", "")),
        str(message.get("stderr", "")),
        value,
        str(message.get("detail", "")),
        float(message.get("wall_s", 0.0)),
        float(message.get("waited_s", 0.0)),
        float(message.get("cpu_s", 0.0)),
    )


def message_of(outcome: Outcome) -> dict[str, Any]:
    """The outcome as JSON-able data: what `outcome_of` reads."""
    return {**asdict(outcome), "value": plain_values.encode(outcome.value)}
