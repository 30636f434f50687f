"""From a name to a plugin: one at a time, isolated, with the cause of every failure.

name -> entry point (metadata) -> PluginSpec (light import) -> API version -> requirements -> target, options class
"""

from __future__ import annotations

import importlib.util
import inspect
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any, cast

from rlkit.errors import BrokenPluginError, MissingRequirementError, PluginConflictError, PluginNotFoundError
from rlkit.plugin.discovery import InstalledPlugin, installed_plugins
from rlkit.plugin.references import describe_error, is_reference, load_reference
from rlkit.plugin.spec import NEEDS, PLUGIN_API_VERSION, Need, PluginKind, PluginSpec

if TYPE_CHECKING:
    from rlkit.config.base import PluginOptions

SLOW_IMPORT_S = 5.0
"""Seconds after which a person is told which plugin is keeping them waiting."""


DECLARING_KINDS = (PluginKind.ADVANTAGE_ESTIMATOR, PluginKind.POLICY_LOSS)
"""Kinds whose objects say themselves what they need when no `PluginSpec` does."""


@dataclass(frozen=True)
class LoadedPlugin:
    """A plugin whose target has been imported.

    distribution and version are `(file)` or `(module)` and empty for a reference.
    """

    kind: PluginKind
    name: str
    spec: PluginSpec
    distribution: str
    version: str
    target: Any
    options_class: type[PluginOptions] | None

    def parse_options(self, values: Mapping[str, Any], *, where: str) -> PluginOptions | None:
        """Validate the plugin's own options. Raises `ConfigError` with the full key under `where`."""
        from rlkit.config.errors import refuse_options, validate_section

        if self.options_class is None:
            refuse_options(values, where=where, plugin=f"{self.kind.label} '{self.name}'")
            return None
        return validate_section(self.options_class, values, where=where)


def find_plugin(kind: PluginKind, name: str) -> InstalledPlugin:
    """The one installed plugin of this kind and name.

    Raises `PluginNotFoundError` with what is installed and a near match, `PluginConflictError` naming both providers.
    """
    plugins = [plugin for plugin in installed_plugins() if plugin.kind is kind]
    usable = [plugin for plugin in plugins if plugin.state != "disabled"]
    found = [plugin for plugin in usable if plugin.name == name]
    if len(found) > 1:
        providers = " and ".join(plugin.origin for plugin in found)
        raise PluginConflictError(
            f"{kind.label} '{name}' is provided by {providers}; uninstall one of them, or disable it with RLKIT_DISABLED_PLUGINS"
        )
    if found:
        return found[0]
    if any(plugin.name == name for plugin in plugins):
        raise PluginNotFoundError(f"{kind.label} '{name}' is installed but disabled by RLKIT_DISABLED_PLUGINS")
    names = sorted({plugin.name for plugin in usable})
    near = [known for known in names if known.startswith(name)] or get_close_matches(name, names, n=1, cutoff=0.5)
    hint = f" Did you mean '{near[0]}'?" if near else ""
    raise PluginNotFoundError(f"{kind.label} '{name}' not found; installed: {', '.join(names) or '(none)'}.{hint}")


def load_spec(kind: PluginKind, name: str) -> PluginSpec:
    """The light description. Raises `BrokenPluginError` naming distribution, version and cause.

    That of a reference is made up: what an estimator or a loss in a file needs stands in attributes of it, so those are
    imported for it.
    """
    if not is_reference(name):
        return read_spec(find_plugin(kind, name))
    if kind not in DECLARING_KINDS:
        return PluginSpec(kind=kind, target=name, summary=f"from {name}")
    target = load_reference(name)
    needs, aggregations = _declared(target, "needs", name), _declared(target, "aggregations", name)
    unknown = sorted(set(needs) - set(NEEDS))
    if unknown:
        raise BrokenPluginError(f"'{name}' needs {', '.join(unknown)}, which is not one of {', '.join(NEEDS)}")
    return PluginSpec(
        kind=kind,
        target=name,
        summary=f"from {name}",
        needs=cast(tuple[Need, ...], needs),
        has_ratio=bool(getattr(target, "has_ratio", True)),
        aggregations=aggregations,
    )


def read_spec(plugin: InstalledPlugin) -> PluginSpec:
    """As `load_spec`, for a plugin that has been found."""
    with _told_when_slow(plugin):
        spec = _import_value(plugin, plugin.value, "its entry point")
    if not isinstance(spec, PluginSpec):
        raise BrokenPluginError(f"{_title(plugin)}: {plugin.value} is a {type(spec).__name__}, not a PluginSpec")
    if spec.kind is not plugin.kind:
        raise BrokenPluginError(
            f"{_title(plugin)}: {plugin.value} describes a {spec.kind.label}, but is registered under {plugin.kind.group}"
        )
    return spec


def load_plugin(kind: PluginKind, name: str) -> LoadedPlugin:
    """Import the target of a plugin by name, `file.py:function` or `package.module:attr`."""
    if is_reference(name):
        spec = load_spec(kind, name)
        place = "(file)" if name.rpartition(":")[0].endswith(".py") else "(module)"
        return LoadedPlugin(kind, name, spec, place, "", load_reference(name), None)
    return load_found(find_plugin(kind, name))


def load_found(plugin: InstalledPlugin) -> LoadedPlugin:
    """As `load_plugin`, for a plugin that has been found."""
    spec = read_spec(plugin)
    check_api_version(plugin, spec)
    absent = missing_requirements(spec)
    if absent:
        hint = spec.install_hint or f"pip install {' '.join(absent)}"
        raise MissingRequirementError(f"{_title(plugin)} needs {', '.join(absent)}; {hint}")
    with _told_when_slow(plugin):
        target = _import_value(plugin, spec.target, "its target")
        options_class = read_options_class(plugin, spec)
    return LoadedPlugin(plugin.kind, plugin.name, spec, plugin.distribution, plugin.version, target, options_class)


def read_options_class(plugin: InstalledPlugin, spec: PluginSpec) -> type[PluginOptions] | None:
    """The class of the plugin's own options, imported without its target; None when it has no options."""
    found: type[PluginOptions] | None = None
    if spec.config is not None:
        found = _import_value(plugin, spec.config, "its options")
    return found


def build_plugin(kind: PluginKind, name: str, options: Mapping[str, Any], *, where: str, **context: Any) -> Any:
    """The plugin's object: `target(options, **context)`, or `target(**context)` when it has no options.

    `where` is the config path of the options, for messages.
    """
    plugin = load_plugin(kind, name)
    parsed = plugin.parse_options(options, where=where)
    return plugin.target(**context) if parsed is None else plugin.target(parsed, **context)


def construct(plugin: LoadedPlugin, options: Mapping[str, Any], *, where: str) -> tuple[Any, Mapping[str, Any]]:
    """The callable that a plugin stands for, and the options that are left to be its keyword arguments.

    With an options class it is `target(options)`, without one an instance of a class, or the target itself. Raises
    `BrokenPluginError` for a class that cannot be made without arguments.
    """
    if plugin.options_class is not None:
        return plugin.target(plugin.parse_options(options, where=where)), {}
    if inspect.isclass(plugin.target):
        try:
            return plugin.target(), options
        except TypeError as error:
            raise BrokenPluginError(
                f"{plugin.kind.label} '{plugin.name}' cannot be made without arguments: {describe_error(error)}"
            ) from error
    return plugin.target, options


def check_api_version(plugin: InstalledPlugin, spec: PluginSpec) -> None:
    """Raises `BrokenPluginError` when the plugin was made for another plugin API."""
    if spec.api_version == PLUGIN_API_VERSION:
        return
    advice = "upgrade rlkit-llm" if spec.api_version > PLUGIN_API_VERSION else f"upgrade {plugin.distribution}"
    raise BrokenPluginError(
        f"{_title(plugin)} was made for plugin API {spec.api_version}, this rlkit has {PLUGIN_API_VERSION}; {advice}"
    )


def missing_requirements(spec: PluginSpec) -> list[str]:
    """Modules that the plugin says it needs and that cannot be found; nothing is imported."""
    return [module for module in spec.requires if not _is_importable(module)]


def _is_importable(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except (ImportError, ValueError):
        return False


def _declared(target: object, attribute: str, name: str) -> tuple[str, ...]:
    """A tuple of words that `target` has as an attribute, if it has it."""
    words = getattr(target, attribute, ())
    if not isinstance(words, tuple | list) or not all(isinstance(word, str) for word in words):
        raise BrokenPluginError(f"'{name}': its {attribute} must be a tuple of words, got {words!r}")
    return tuple(words)


def _import_value(plugin: InstalledPlugin, value: str, what: str) -> Any:
    """`package.module:attribute`, with every way of failing turned into one that names the plugin."""
    module_name, _, attribute = value.partition(":")
    try:
        found: Any = importlib.import_module(module_name)
        for part in attribute.split("."):
            found = getattr(found, part)
    except (Exception, SystemExit) as error:
        raise BrokenPluginError(f"{_title(plugin)} failed to load {what} {value}: {describe_error(error)}") from error
    return found


def _title(plugin: InstalledPlugin) -> str:
    return f"{plugin.kind.label} '{plugin.name}' from {plugin.origin}"


@contextmanager
def _told_when_slow(plugin: InstalledPlugin) -> Iterator[None]:
    """Say on stderr which plugin is being imported when that takes long."""

    def tell() -> None:
        print(f"still importing {_title(plugin)} after {SLOW_IMPORT_S:.0f} s", file=sys.stderr, flush=True)

    timer = threading.Timer(SLOW_IMPORT_S, tell)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
