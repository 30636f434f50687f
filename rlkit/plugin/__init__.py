"""Finding, describing and loading plugins. Importing this package imports no plugin."""

from rlkit.plugin.spec import PLUGIN_API_VERSION, PluginKind, PluginSpec

__all__ = ["PLUGIN_API_VERSION", "PluginKind", "PluginSpec"]
