"""What a rollout engine's own options say of its memory, for `--dry-run`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rlkit.config.errors import validate_section
from rlkit.pipelines.memory import EngineLimits
from rlkit.plugin.loader import find_plugin, read_options_class, read_spec
from rlkit.plugin.references import is_reference
from rlkit.plugin.spec import PluginKind


def engine_limits(name: str, options: Mapping[str, Any], *, where: str, device: str) -> EngineLimits:
    """From the options that bear the names in docs/plugins/rollout_engine.md, defaults included; `where` is their config
    path, for messages.
    """
    if is_reference(name):
        return EngineLimits()
    plugin = find_plugin(PluginKind.ROLLOUT_ENGINE, name)
    options_class = read_options_class(plugin, read_spec(plugin))
    chosen = None if options_class is None else validate_section(options_class, options, where=where)
    fixed_cache_bytes = getattr(chosen, "fixed_cache_bytes", None)
    on_cpu = device == "cpu"
    return EngineLimits(
        cache_tokens=getattr(chosen, "max_batch_tokens", None),
        prefill_tokens=getattr(chosen, "max_prefill_tokens", None),
        cache_bytes=None if fixed_cache_bytes is None else fixed_cache_bytes(device),
        device_share=None if on_cpu else getattr(chosen, "device_share", None),
        keeps_cache=fixed_cache_bytes is not None and on_cpu,
    )


def engine_notes(name: str, limits: EngineLimits) -> list[str]:
    """What the table of bytes cannot say: the share of a GPU whose size is not known without its driver."""
    if limits.device_share is None:
        return []
    rest = "" if limits.cache_bytes is None else " at most, of which the KV cache is as large as told"
    return [
        f"rollout engine {name} takes {100 * limits.device_share:g} % of the GPU for parameters, activations and KV cache "
        f"together{rest}: the rest of the run has to fit beside that, and all of the table's engine rows into it"
    ]
