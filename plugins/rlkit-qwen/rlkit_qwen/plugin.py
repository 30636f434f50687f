"""What the distribution offers, as strings: nothing is imported here."""

from __future__ import annotations

from rlkit.plugin import PluginKind, PluginSpec

qwen2 = PluginSpec(
    kind=PluginKind.MODEL_FAMILY,
    target="rlkit_qwen.family:qwen2",
    summary="Qwen2 and Qwen2.5, dense",
    requires=("torch", "transformers"),
    install_hint="pip install rlkit-qwen",
    architectures=("Qwen2ForCausalLM", "Qwen2ForSequenceClassification"),
)

qwen3 = PluginSpec(
    kind=PluginKind.MODEL_FAMILY,
    target="rlkit_qwen.family:qwen3",
    summary="Qwen3, dense",
    requires=("torch", "transformers"),
    install_hint="pip install rlkit-qwen",
    architectures=("Qwen3ForCausalLM", "Qwen3ForSequenceClassification"),
)
