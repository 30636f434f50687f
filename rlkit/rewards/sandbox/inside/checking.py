"""The judge's side of a check: test code runs here, the program's functions are called in their own process.

    judge (this process: expected values, the verdict)  -- name, plain arguments -->  program (its own process)
                                                        <-- plain value or error --

The test code compares values that were made here, of exact built-in types. Nothing that the program does to its own
interpreter changes what `==` means on this side, and no expected value is ever sent to it.
"""

from __future__ import annotations

import ast
import builtins
import json
import os
import select
import time
from collections.abc import Iterator
from typing import Any

from rlkit.rewards.sandbox.inside.plain_values import NotPlainError, decode, encode

MAX_REPLY_BYTES = 8 * 2**20
"""A program that returns more in one call has failed."""


END_OF_A_LOOP = (StopIteration, StopAsyncIteration)
"""A program that raises one would end the test's own `map` or `zip` before anything was compared."""


class OutOfTimeError(BaseException):
    """The limit has passed. Not an `Exception`, so that test code which catches those does not swallow it."""


class ProgramEndedError(BaseException):
    """The program's process is gone, or talks nonsense."""


class DoesNotCompileError(BaseException):
    """The program is not Python."""


_END = object()


class Line:
    """Requests to the program and its replies, until `deadline` (of `time.monotonic`).

    calls   how many requests were answered; ended  why there will be no more, or ""
    """

    def __init__(self, write_fd: int, read_fd: int, deadline: float) -> None:
        self.write_fd, self.read_fd, self.deadline = write_fd, read_fd, deadline
        self.buffer = bytearray()
        self.calls = 0
        self.ended = ""

    def load(self, source: str) -> None:
        """Hand over the program. Raises what `ask` raises, and `DoesNotCompileError`."""
        reply = self._exchange(source)
        if "syntax" in reply:
            raise DoesNotCompileError(str(reply["syntax"])[:500])
        if "error" in reply:
            name, text = _error_of(reply)
            raise self._end(f"{name} while it was loaded: {text}")

    def ask(self, request: dict[str, Any], *, at_the_end: Any = None) -> Any:
        """The value that the program gives; `at_the_end`, if there is one, when its iterator has come to its end.

        Raises what the program raised, as the built-in error of that name.
        """
        reply = self._exchange(request)
        self.calls += 1
        if "error" in reply:
            name, text = _error_of(reply)
            if at_the_end is not None and name == "StopIteration":
                return at_the_end
            raise _as_exception(name, text)
        try:
            return decode(reply.get("value"), lambda number: RemoteObject(self, number=number))
        except (NotPlainError, TypeError, RecursionError) as error:
            raise self._end(f"its reply cannot be read: {error}") from None

    def _exchange(self, message: Any) -> dict[str, Any]:
        if self.ended:
            raise ProgramEndedError(self.ended)
        self._write((json.dumps(message) + "\n").encode())
        try:
            reply = json.loads(self._read_line())
        except (ValueError, RecursionError):
            raise self._end("its reply is not JSON") from None
        if not isinstance(reply, dict):
            raise self._end("its reply is not JSON of this protocol")
        return reply

    def _write(self, data: bytes) -> None:
        while data:
            self._wait(self.write_fd, select.POLLOUT)
            try:
                data = data[os.write(self.write_fd, data[: select.PIPE_BUF]) :]
            except OSError:
                raise self._end("the program's process ended") from None

    def _read_line(self) -> bytes:
        searched = 0
        while (end := self.buffer.find(b"\n", searched)) < 0:
            searched = len(self.buffer)
            if searched > MAX_REPLY_BYTES:
                raise self._end(f"its reply is longer than {MAX_REPLY_BYTES >> 20} MiB")
            self._wait(self.read_fd, select.POLLIN)
            received = os.read(self.read_fd, 65536)
            if not received:
                raise self._end("the program's process ended")
            self.buffer += received
        line = bytes(self.buffer[:end])
        del self.buffer[: end + 1]
        return line

    def _wait(self, descriptor: int, event: int) -> None:
        poll = select.poll()
        poll.register(descriptor, event)
        if not poll.poll(max(0.0, self.deadline - time.monotonic()) * 1000):
            self.ended = "out of time"
            raise OutOfTimeError

    def _end(self, reason: str) -> ProgramEndedError:
        self.ended = reason
        return ProgramEndedError(reason)


class RemoteObject:
    """A function, or an object without a plain form, of the program: calls, attributes and iteration go there.

    It equals nothing but itself and has no length: what a test compares has to be plain data.
    """

    __slots__ = ("_line", "_where")

    def __init__(self, line: Line, *, name: str = "", number: int | None = None) -> None:
        self._line = line
        self._where: dict[str, Any] = {"name": name, "number": number}

    def __call__(self, *arguments: Any, **keywords: Any) -> Any:
        content = {
            "arguments": encode(list(arguments), _number_of),
            "keywords": encode(keywords, _number_of),
        }
        return self._line.ask({"do": "call", **self._where, **content})

    def __getattr__(self, attribute: str) -> Any:
        if attribute.startswith("__"):
            raise AttributeError(attribute)
        return self._line.ask({"do": "get", **self._where, "attribute": attribute})

    def __iter__(self) -> Iterator[Any]:
        iterator = self._line.ask({"do": "iterate", **self._where})
        if not isinstance(iterator, RemoteObject):
            raise TypeError("the program's object is not iterable")
        while True:
            item = self._line.ask({"do": "next", **iterator._where}, at_the_end=_END)
            if item is _END:
                return
            yield item


def check(task: dict[str, Any], line: Line) -> dict[str, Any]:
    """Run test code against the program; the answer is `{"passed": bool, "detail": str}`.

    task: `before` (code that the tests may need, as a data set's prompt), `test`, `entry_point` (what `candidate` is;
    "" leaves it to the names in the test). Not passed either when the program's process ended on the way, or when the
    test never called it.
    """
    namespace: dict[str, Any] = {"__name__": "test"}
    if task["before"]:
        exec(compile(task["before"], "before.py", "exec", dont_inherit=True), namespace)
    test = task["test"]
    entry_point = task["entry_point"]
    if entry_point:
        namespace[entry_point] = namespace["candidate"] = RemoteObject(line, name=entry_point)
        if "def check(" in test and not _calls_check(test):
            test += "\ncheck(candidate)\n"
    tree = ast.parse(test, "test.py")
    for name in _names_of_the_program(tree, namespace):
        namespace[name] = RemoteObject(line, name=name)
    try:
        exec(compile(tree, "test.py", "exec", dont_inherit=True), namespace)
    except (OutOfTimeError, ProgramEndedError):
        raise
    except BaseException as error:
        if line.ended:
            raise ProgramEndedError(line.ended) from None
        return {"passed": False, "detail": _described(error)}
    if line.ended:
        raise ProgramEndedError(line.ended)
    if not line.calls:
        return {"passed": False, "detail": "the test never called the program"}
    return {"passed": True, "detail": ""}


def call(task: dict[str, Any], line: Line) -> dict[str, Any]:
    """Call one function; the answer is `{"value": plain JSON}` or `{"error": text}`. The comparison happens outside."""
    try:
        value = RemoteObject(line, name=task["function"])(*decode(task["arguments"]))
        return {"value": encode(value)}
    except Exception as error:
        return {"error": _described(error)}


def _names_of_the_program(tree: ast.Module, known: dict[str, Any]) -> list[str]:
    """Names that the test code reads and nobody defines: they can only be the program's."""
    bound = set(known) | set(dir(builtins))
    read: list[str] = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Name):
            if isinstance(node.ctx, ast.Load):
                read.append(node.id)
            else:
                bound.add(node.id)
        elif isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            bound.add(node.name)
        elif isinstance(node, ast.arg):
            bound.add(node.arg)
        elif isinstance(node, ast.alias):
            bound.add((node.asname or node.name).split(".")[0])
        elif isinstance(node, ast.ExceptHandler) and node.name:
            bound.add(node.name)
    return sorted(set(read) - bound)


def _calls_check(test: str) -> bool:
    """Whether the test code calls its `check` by itself, at the outermost level."""
    return any(
        isinstance(node, ast.Expr)
        and isinstance(node.value, ast.Call)
        and isinstance(node.value.func, ast.Name)
        and node.value.func.id == "check"
        for node in ast.parse(test).body
    )


def _number_of(value: Any) -> int | None:
    return value._where["number"] if isinstance(value, RemoteObject) else None


def _error_of(reply: dict[str, Any]) -> tuple[str, str]:
    try:
        name, text = reply["error"]
    except (TypeError, ValueError):
        return "RuntimeError", "unreadable error"
    return str(name), str(text)[:500]


def _as_exception(name: str, text: str) -> Exception:
    """The built-in exception of that name; others, and those that would end this process, become `RuntimeError`."""
    kind = getattr(builtins, name, None)
    if isinstance(kind, type) and issubclass(kind, Exception) and not issubclass(kind, END_OF_A_LOOP):
        try:
            return kind(text)
        except TypeError:  # such as UnicodeDecodeError, which wants five arguments
            pass
    return RuntimeError(f"{name}: {text}")


def _described(error: BaseException) -> str:
    text = str(error).strip().split("\n", 1)[0][:300]
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
