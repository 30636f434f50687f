"""What rlkit reads before it imports anything else of this distribution."""

from __future__ import annotations

from rlkit.plugin import PluginKind, PluginSpec

backend = PluginSpec(
    kind=PluginKind.ACTOR_BACKEND,
    target="rlkit_megatron.backend:MegatronBackend",
    config="rlkit_megatron.options:MegatronOptions",
    many_devices=True,
    summary="megatron-core models, spread by tensor, sequence, pipeline, expert and data parallelism",
    requires=("torch", "transformers", "safetensors", "megatron.core"),
    install_hint="pip install rlkit-megatron",
)
