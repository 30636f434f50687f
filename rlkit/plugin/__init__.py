"""Finding, describing and loading plugins. Importing this package imports no plugin."""

from rlkit.plugin.spec import PLUGIN_API_VERSION, PluginKind, PluginSpec

__all__ = ["PLUGIN_API_VERSION", "PluginKind", "PluginSpec", "hookimpl"]


def __getattr__(name: str) -> object:
    # pluggy is only needed by hook plugins and by runs, not by `rlkit plugins list`.
    if name == "hookimpl":
        from rlkit.plugin.hookspecs import hookimpl

        return hookimpl
    raise AttributeError(name)
