"""Calling the hook plugins of a run: all of them, each isolated from the others and from the run."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Mapping, Sequence
from difflib import get_close_matches
from functools import partial
from typing import TYPE_CHECKING, Any

import pluggy

from rlkit.errors import BrokenPluginError, PluginError
from rlkit.plugin.discovery import installed_plugins
from rlkit.plugin.hookspecs import RunHooks
from rlkit.plugin.loader import load_plugin, read_spec
from rlkit.plugin.references import describe_error
from rlkit.plugin.spec import PluginKind

if TYPE_CHECKING:
    from rlkit.config.base import PluginOptions

HOOK_NAMES = tuple(name for name, member in vars(RunHooks).items() if inspect.isfunction(member))
"""Every event, in the order in which a run raises them."""


class HookRelay:
    """Passes run events on; `relay.step_finished(run=..., step=..., metrics=...)` calls every hook that listens.

    A hook that raises is reported once, on stderr, and not called again; it never stops a run.
    """

    def __init__(self) -> None:
        self._manager = pluggy.PluginManager("rlkit")
        self._manager.add_hookspecs(RunHooks)
        self.failures: dict[str, str] = {}
        self._origins: dict[str, str] = {}

    @classmethod
    def for_run(
        cls,
        names: Sequence[str] = (),
        *,
        skip: Sequence[str] = (),
        options: Mapping[str, Mapping[str, Any]] | None = None,
    ) -> HookRelay:
        """The hooks that are always on, less those in `skip`, and those named, with their `options` by name.

        A broken always-on hook is reported and left out; a broken named one raises, since somebody asked for it. Raises
        `ConfigError` for options that a hook does not have.
        """
        relay = cls()
        for name in _always_on(relay):
            if name in names or name in skip:
                continue
            try:
                relay._load(name)
            except PluginError as error:
                relay._report(name, str(error))
        for name in names:
            relay._load(name, (options or {}).get(name, {}))
        return relay

    def _load(self, name: str, options: Mapping[str, Any] | None = None) -> None:
        plugin = load_plugin(PluginKind.HOOK, name)
        origin = f"{plugin.distribution} {plugin.version}".rstrip()
        parsed = plugin.parse_options(options or {}, where=f"run.hook_options.{name}")
        try:
            hook = make_hook(plugin.target, parsed)
        except (Exception, SystemExit) as error:
            raise BrokenPluginError(f"hook '{name}' from {origin}: {describe_error(error)}") from error
        self.add(name, hook, origin=origin)

    def add(self, name: str, hook: object, *, origin: str = "") -> None:
        """Register an object whose methods are marked with `hookimpl`; `origin` is named when it fails.

        Raises `BrokenPluginError` for a marked method that is no event, could not be called, or has wrong parameters.
        """
        title = f"hook '{name}' from {origin}" if origin else f"hook '{name}'"
        self._origins[name] = origin
        try:
            for attribute in dir(hook):
                _check_listener(title, attribute, getattr(hook, attribute, None))
            self._manager.register(hook, name=name)
        except BrokenPluginError:
            raise
        except Exception as error:  # whatever a property of the hook raises, besides pluggy's own complaints
            raise BrokenPluginError(f"{title}: {describe_error(error)}") from error

    @property
    def heard_events(self) -> tuple[str, ...]:
        """Events that at least one hook listens to."""
        return tuple(event for event in HOOK_NAMES if getattr(self._manager.hook, event).get_hookimpls())

    def __getattr__(self, event: str) -> Callable[..., None]:
        if event not in HOOK_NAMES:
            raise AttributeError(event)
        return partial(self._call, event)

    def _call(self, event: str, **arguments: Any) -> None:
        # One implementation at a time: pluggy's own call would let the first failure keep the others from hearing.
        for implementation in reversed(getattr(self._manager.hook, event).get_hookimpls()):
            name = implementation.plugin_name
            if name in self.failures:
                continue
            chosen = {key: arguments[key] for key in implementation.argnames}
            try:
                implementation.function(**chosen)
            except (Exception, SystemExit) as error:
                origin = self._origins[name]
                self._report(name, f"{event}{f' of {origin}' if origin else ''} raised {describe_error(error)}")

    def _report(self, name: str, cause: str) -> None:
        self.failures[name] = cause
        print(f"warning: hook '{name}' is switched off for this run: {cause}", file=sys.stderr, flush=True)


def make_hook(target: Any, options: PluginOptions | None = None) -> Any:
    """The hook behind a plugin's target: `target(options)`; without options a class's instance, or the target itself."""
    if options is not None:
        return target(options)
    return target() if inspect.isclass(target) else target


def _check_listener(title: str, attribute: str, method: object) -> None:
    """Raises `BrokenPluginError` for a marked method that would never be heard of."""
    marks = getattr(method, "rlkit_impl", None)
    if not isinstance(marks, dict):
        return
    event = marks.get("specname") or attribute
    if event not in HOOK_NAMES:
        near = get_close_matches(event, HOOK_NAMES, n=1, cutoff=0.5)
        hint = f"did you mean '{near[0]}'?" if near else f"events: {', '.join(HOOK_NAMES)}"
        raise BrokenPluginError(f"{title} listens to '{event}', which is no event; {hint}")
    if inspect.iscoroutinefunction(method):
        raise BrokenPluginError(
            f"{title}: '{attribute}' is async; make it a plain method (it may use asyncio.run inside)"
        )
    if marks.get("wrapper") or marks.get("hookwrapper"):
        raise BrokenPluginError(f"{title}: '{attribute}' is a wrapper; events have no results to wrap")


def _always_on(relay: HookRelay) -> list[str]:
    names: list[str] = []
    for plugin in installed_plugins():
        if plugin.kind is not PluginKind.HOOK or plugin.state == "disabled" or plugin.name in names:
            continue
        try:
            if read_spec(plugin).always_on:
                names.append(plugin.name)
        except PluginError as error:
            relay._report(plugin.name, str(error))
    return names
