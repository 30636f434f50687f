"""Everything `rlkit plugins show` says about one plugin, as far as the plugin lets itself be read."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any

from rlkit.errors import PluginError
from rlkit.plugin.discovery import InstalledPlugin
from rlkit.plugin.loader import check_api_version, missing_requirements, read_options_class, read_spec

if TYPE_CHECKING:
    from pydantic import BaseModel

    from rlkit.plugin.spec import PluginSpec


@dataclass(frozen=True)
class OptionDescription:
    """One key of a plugin's options table; everything as people write it."""

    name: str
    type: str
    default: str
    doc: str


@dataclass(frozen=True)
class PluginDescription:
    """problem is empty when nothing is wrong; the fields after it are empty where the problem hides them."""

    kind: str
    name: str
    distribution: str
    version: str
    state: str
    entry_point: str
    problem: str = ""
    summary: str = ""
    target: str = ""
    api_version: int | None = None
    requires: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()
    install_hint: str = ""
    architectures: tuple[str, ...] = ()
    always_on: bool = False
    needs: tuple[str, ...] = ()
    aggregations: tuple[str, ...] = ()
    options: tuple[OptionDescription, ...] = field(default=())

    @property
    def told(self) -> str:
        """The summary and what it needs on one line, or what is wrong."""
        if self.problem:
            return self.problem
        needs = f" (needs {', '.join(need.replace('_', ' ') for need in self.needs)})" if self.needs else ""
        return f"{self.summary}{needs}"

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


def describe_plugin(plugin: InstalledPlugin) -> PluginDescription:
    """Reads the light description and the options class, never the target."""
    basics = PluginDescription(
        plugin.kind.value, plugin.name, plugin.distribution, plugin.version, plugin.state, plugin.value
    )
    try:
        spec = read_spec(plugin)
    except PluginError as error:
        return replace(basics, problem=str(error))
    missing = tuple(missing_requirements(spec))
    problem = ""
    options: tuple[OptionDescription, ...] = ()
    try:
        check_api_version(plugin, spec)
        options = _options_of(plugin, spec, may_fail=bool(missing))
    except PluginError as error:
        problem = str(error)
    if not problem and missing:
        problem = f"needs {', '.join(missing)}, not installed"
    return replace(
        basics,
        problem=problem,
        summary=spec.summary,
        target=spec.target,
        api_version=spec.api_version,
        requires=spec.requires,
        missing=missing,
        install_hint=spec.install_hint,
        architectures=spec.architectures,
        always_on=spec.always_on,
        needs=spec.needs,
        aggregations=spec.aggregations,
        options=options,
    )


def _options_of(plugin: InstalledPlugin, spec: PluginSpec, *, may_fail: bool) -> tuple[OptionDescription, ...]:
    """may_fail: modules are missing that the options may need too."""
    try:
        options_class = read_options_class(plugin, spec)
    except PluginError:
        if may_fail:
            return ()
        raise
    return () if options_class is None else tuple(describe_options(options_class))


def describe_options(options_class: type[BaseModel]) -> Iterator[OptionDescription]:
    """The class's fields, in order."""
    from rlkit.config.describe import default_text, type_text

    for name, option in options_class.model_fields.items():
        yield OptionDescription(name, type_text(option), default_text(option), option.description or "")
