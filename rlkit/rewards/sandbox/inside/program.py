"""The process of the program that is being tried: as a script, or answering calls of its functions.

    python program.py script FILE       runs FILE as __main__
    python program.py serve IN OUT      reads requests from file descriptor IN, writes replies to OUT, one JSON line each

Nothing here is trusted: the program shares this process and may change all of it. Its judge sits in another process and
takes nothing from here but plain data (see plain_values).
"""

from __future__ import annotations

import os
import sys
from typing import Any

DOES_NOT_COMPILE = 86
"""Exit status of a script that is not Python; a script that ends with it by itself is counted as one."""

MODULE_NAME = "solution"
"""`__name__` of a program whose functions are called: not "__main__", so that its own demonstration does not run."""

COMPILE_ERRORS = (SyntaxError, ValueError, RecursionError, MemoryError, OverflowError)


def run_script(path: str) -> None:
    """Run a file the way `python FILE` does."""
    with open(path, "rb") as file:  # noqa: PTH123 - pathlib takes as long to import as Python to start
        source = file.read()
    try:
        code = compile(source, path, "exec", dont_inherit=True)
    except COMPILE_ERRORS as error:
        sys.stderr.write(f"{type(error).__name__}: {error}\n")
        sys.exit(DOES_NOT_COMPILE)
    sys.argv = [path]
    namespace = sys.modules["__main__"].__dict__
    for name in [name for name in namespace if not name.startswith("__")]:
        del namespace[name]
    namespace["__file__"] = path
    # `exec` is a builtin: nothing of this function's own names is visible to the program.
    exec(code, namespace)


class Served:
    """A program's functions, called by number or by name."""

    def __init__(self, namespace: dict[str, Any]) -> None:
        self.namespace = namespace
        self.kept: list[Any] = []

    def keep(self, value: Any) -> int:
        """The number of an object that stays here: only its methods' results travel."""
        for number, known in enumerate(self.kept):
            if known is value:
                return number
        self.kept.append(value)
        return len(self.kept) - 1

    def answer(self, request: dict[str, Any]) -> Any:
        from rlkit.rewards.sandbox.inside.plain_values import decode, encode

        target = self._target(request)
        if request["do"] == "get":
            return encode(getattr(target, request["attribute"]), self.keep)
        if request["do"] == "iterate":
            return encode(iter(target), self.keep)
        if request["do"] == "next":
            return encode(next(target), self.keep)
        arguments = decode(request["arguments"], self.kept.__getitem__)
        keywords = decode(request["keywords"], self.kept.__getitem__)
        return encode(target(*arguments, **keywords), self.keep)

    def _target(self, request: dict[str, Any]) -> Any:
        if request["number"] is not None:
            return self.kept[request["number"]]
        name = request["name"]
        if name not in self.namespace and hasattr(self.namespace.get("Solution"), name):
            return getattr(self.namespace["Solution"](), name)
        if name not in self.namespace:
            raise NameError(f"name {name!r} is not defined")
        return self.namespace[name]


def serve(read_fd: int, write_fd: int) -> None:
    """First the source, then calls, until the other side hangs up."""
    import json
    import types

    with os.fdopen(read_fd, "r", encoding="utf-8") as requests, os.fdopen(write_fd, "w", encoding="utf-8") as replies:

        def reply(message: dict[str, Any]) -> None:
            replies.write(json.dumps(message) + "\n")
            replies.flush()

        source = json.loads(requests.readline())
        try:
            code = compile(source.encode("utf-8", "surrogatepass"), MODULE_NAME + ".py", "exec", dont_inherit=True)
        except COMPILE_ERRORS as error:
            reply({"syntax": f"{type(error).__name__}: {error}"})
            return
        module = types.ModuleType(MODULE_NAME)
        sys.modules[MODULE_NAME] = module
        try:
            exec(code, module.__dict__)
        except BaseException as error:
            reply(_failed(error))
            return
        served = Served(module.__dict__)
        reply({"ready": True})
        for line in requests:
            try:
                answered = json.dumps({"value": served.answer(json.loads(line))})
            except BaseException as error:
                answered = json.dumps(_failed(error))
            replies.write(answered + "\n")
            replies.flush()


def _failed(error: BaseException) -> dict[str, Any]:
    try:
        text = str(error)[:500]
    except BaseException:
        text = ""
    return {"error": [type(error).__name__, text]}


def main() -> None:
    import builtins

    sys.path[:] = [path for path in sys.path if path != os.environ.get("PYTHONPATH")]
    builtins.exit = builtins.quit = sys.exit  # type: ignore[assignment] # what `site` adds, which costs 25 ms to import
    if sys.argv[1] == "serve":
        sys.path.append(os.environ.pop("PYTHONPATH"))
        return serve(int(sys.argv[2]), int(sys.argv[3]))
    os.environ.pop("PYTHONPATH", None)
    return run_script(sys.argv[2])


if __name__ == "__main__":
    main()
