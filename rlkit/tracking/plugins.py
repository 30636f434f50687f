"""The hooks that come with rlkit, as the entry points of this distribution name them."""

from __future__ import annotations

from rlkit.plugin.spec import PluginKind, PluginSpec

console = PluginSpec(
    kind=PluginKind.HOOK,
    target="rlkit.tracking.console:ConsoleHook",
    summary="Progress and live metrics on the terminal; plain lines or JSON elsewhere",
    always_on=True,
)
jsonl = PluginSpec(
    kind=PluginKind.HOOK,
    target="rlkit.tracking.jsonl:JsonlHook",
    summary="Every metric of every step in <run>/metrics.jsonl",
    always_on=True,
)
