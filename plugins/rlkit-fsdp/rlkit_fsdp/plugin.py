"""What rlkit reads before it imports anything else of this distribution."""

from __future__ import annotations

from rlkit.plugin import PluginKind, PluginSpec

backend = PluginSpec(
    kind=PluginKind.ACTOR_BACKEND,
    target="rlkit_fsdp.backend:FSDPBackend",
    config="rlkit_fsdp.options:FSDPOptions",
    many_devices=True,
    summary="transformers models trained padding-free with AdamW, on one device or sharded over many with FSDP2",
    requires=("torch", "transformers", "safetensors"),
    install_hint="pip install rlkit-fsdp",
)
