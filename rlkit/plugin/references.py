"""Objects named by where they are: `file.py:function` and `package.module:attr`."""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

from rlkit.errors import BrokenPluginError, PluginNotFoundError


def is_reference(name: str) -> bool:
    """Whether a plugin name says where the object is rather than what an installed plugin is called."""
    return ":" in name


def is_file_reference(name: str) -> bool:
    return name.rpartition(":")[0].endswith(".py")


def load_reference(name: str) -> Any:
    """The object that `name` points at.

    Raises `PluginNotFoundError` when the file, module or attribute does not exist and `BrokenPluginError` when
    importing it fails.
    """
    place, _, attribute = name.rpartition(":")
    if not place or not attribute:
        raise PluginNotFoundError(f"'{name}' is not a reference; write file.py:function or package.module:attribute")
    module = _load_file(Path(place), name) if place.endswith(".py") else _load_module(place, name)
    found: Any = module
    for part in attribute.split("."):
        if not hasattr(found, part):
            public = [item for item in vars(module) if not item.startswith("_")]
            raise PluginNotFoundError(
                f"'{name}': {place} has no '{attribute}'; it has: {', '.join(public) or 'nothing'}"
            )
        found = getattr(found, part)
    return found


def _load_file(path: Path, name: str) -> ModuleType:
    path = path.expanduser()
    if not path.is_file():
        raise PluginNotFoundError(f"'{name}': file {path} does not exist")
    resolved = path.resolve()
    module_name = file_module_name(path)
    if module_name in sys.modules:
        return sys.modules[module_name]
    spec = importlib.util.spec_from_file_location(module_name, resolved)
    if spec is None or spec.loader is None:
        raise BrokenPluginError(f"'{name}': {path} cannot be imported")
    module = importlib.util.module_from_spec(spec)
    sys.modules[module_name] = module
    sys.path.insert(0, str(resolved.parent))  # so that the file may import its neighbours
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        del sys.modules[module_name]
        raise BrokenPluginError(f"'{name}': importing {path} failed: {describe_error(error)}") from error
    finally:
        sys.path.remove(str(resolved.parent))
    return module


def file_module_name(path: Path) -> str:
    """Name of the module that a file becomes: one for each file, however it is spelled."""
    resolved = path.expanduser().resolve()
    # The digest keeps files of the same name apart.
    return f"rlkit_file_{resolved.stem}_{hashlib.sha256(str(resolved).encode()).hexdigest()[:12]}"


def _load_module(module: str, name: str) -> ModuleType:
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name is not None and (module == error.name or module.startswith(f"{error.name}.")):
            raise PluginNotFoundError(f"'{name}': there is no module {module}") from error
        raise BrokenPluginError(f"'{name}': importing {module} failed: {describe_error(error)}") from error
    except (Exception, SystemExit) as error:
        raise BrokenPluginError(f"'{name}': importing {module} failed: {describe_error(error)}") from error


def describe_error(error: BaseException) -> str:
    """`ValueError: text`, on one line."""
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
