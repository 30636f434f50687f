"""The Python that programs run with, and the folders that it needs."""

from __future__ import annotations

import functools
import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from rlkit.errors import SandboxError

_ASK = """
import json, os, sys, sysconfig
stdlib = {sysconfig.get_path(name) for name in ("stdlib", "platstdlib")}
print(json.dumps([sys.version_info[:2], sys.base_prefix, sys.prefix, sorted(stdlib), sys.platform]))
"""
OLDEST_PYTHON = (3, 10)


@dataclass(frozen=True)
class Interpreter:
    """A Python and what of the file system it needs.

    executable  as it is called inside
    folders     to be seen inside, at their own places
    files       the same
    links       (where, to what): a virtual environment's `python`
    options     of the command line: without `site`, which an interpreter without packages has no use for
    """

    executable: str
    folders: tuple[str, ...]
    files: tuple[str, ...]
    links: tuple[tuple[str, str], ...] = ()
    options: tuple[str, ...] = ()

    @property
    def command(self) -> list[str]:
        return [self.executable, *self.options, "-s", "-B"]


@functools.cache
def find_interpreter(python: str = "") -> Interpreter:
    """The interpreter at `python` (a path, or a name on PATH) with its packages; "" is the running one without any.

    Raises `SandboxError` when it is none.
    """
    if not python:
        base = getattr(sys, "_base_executable", "") or sys.executable
        return _described(base, with_packages=False)
    found = shutil.which(python)
    if found is None:
        raise SandboxError(f"no Python interpreter at {python!r}; give the path of one, or leave it out")
    return _described(str(Path(found).absolute()), with_packages=True)


def _described(executable: str, *, with_packages: bool) -> Interpreter:
    asked = subprocess.run([executable, "-I", "-c", _ASK], capture_output=True, text=True, timeout=60, check=False)
    try:
        version, base_prefix, prefix, stdlib, _ = json.loads(asked.stdout)
    except ValueError as error:
        reason = asked.stderr.strip().rpartition("\n")[2] or "it printed nothing"
        raise SandboxError(f"{executable!r} does not work as a Python interpreter: {reason}") from error
    if tuple(version) < OLDEST_PYTHON:
        raise SandboxError(f"{executable!r} is Python {version[0]}.{version[1]}; the sandbox needs 3.10 or newer")
    real = os.path.realpath(executable)
    folders = [folder for folder in stdlib if Path(folder).is_dir()]
    library = str(Path(base_prefix) / "lib")
    if base_prefix != "/usr" and Path(library).is_dir():
        folders.append(library)
    if real.startswith("/nix/"):
        folders.append("/nix/store")
    options = () if with_packages else ("-S",)
    if not with_packages or prefix == base_prefix:
        return Interpreter(real, tuple(folders), (real,), options=options)
    environment = [str(Path(prefix) / name) for name in ("lib", "lib64") if _is_own_folder(Path(prefix) / name)]
    settings = str(Path(prefix) / "pyvenv.cfg")
    return Interpreter(executable, (*folders, *environment), (real, settings), ((executable, real),), options)


def _is_own_folder(path: Path) -> bool:
    return path.is_dir() and not path.is_symlink()
