"""What rlkit reads before it imports anything else of this distribution."""

from __future__ import annotations

from rlkit.plugin import PluginKind, PluginSpec

backend = PluginSpec(
    kind=PluginKind.ACTOR_BACKEND,
    target="rlkit_fsdp.backend:FSDPBackend",
    summary="transformers models trained padding-free with AdamW; one device is world size 1",
    requires=("torch", "transformers", "safetensors"),
    install_hint="pip install rlkit-fsdp",
)
