"""How contract suites are listed and run."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rlkit.plugin.loader import LoadedPlugin
from rlkit.plugin.spec import PluginKind


@dataclass(frozen=True)
class ContractContext:
    """What a check may use.

    plugin    the plugin under test, loaded
    tmp_path  an empty folder of the check's own
    options   the plugin's options, when its defaults are not to be used
    """

    plugin: LoadedPlugin
    tmp_path: Path
    options: Mapping[str, Any] = field(default_factory=dict)

    def build(self, **context: Any) -> Any:
        """The plugin's object, constructed as a pipeline constructs it."""
        parsed = self.plugin.parse_options(self.options, where="options")
        return self.plugin.target(**context) if parsed is None else self.plugin.target(parsed, **context)

    def tiny_model(self) -> Path:
        """A folder with a small Qwen3 and a tokenizer, made once in a process."""
        from rlkit.testing.tiny_model import tiny_model

        return tiny_model()


@dataclass(frozen=True)
class ContractCheck:
    """One thing that every plugin of a kind must do; calling it raises AssertionError, or what the plugin raises."""

    name: str
    function: Callable[[ContractContext], None]
    slow: bool = False  # it starts processes of its own

    def __call__(self, context: ContractContext) -> None:
        self.function(context)

    def __str__(self) -> str:
        return self.name


def contract_checks(kind: PluginKind) -> tuple[ContractCheck, ...]:
    """The suite of a kind, in the order in which a person would want to see the first failure."""
    names = ["description", kind.value, *(["serving"] if kind is PluginKind.ROLLOUT_ENGINE else [])]
    modules = [importlib.import_module(f"rlkit.testing.contracts.{name}") for name in names]
    checks = [check for module in modules for check in module.CHECKS]
    of_processes = ["ranks"] if kind is PluginKind.ACTOR_BACKEND else []
    slow = [
        check for name in of_processes for check in importlib.import_module(f"rlkit.testing.contracts.{name}").CHECKS
    ]
    return tuple(
        ContractCheck(check.__name__.replace("_", "-"), check, slow=check in slow) for check in (*checks, *slow)
    )
