"""What the distribution offers, as strings: nothing is imported here."""

from __future__ import annotations

from rlkit.plugin import PluginKind, PluginSpec

llama = PluginSpec(
    kind=PluginKind.MODEL_FAMILY,
    target="rlkit_llama.family:llama",
    summary="Llama 2 and 3, dense",
    requires=("torch", "transformers"),
    install_hint="pip install rlkit-llama",
    architectures=("LlamaForCausalLM", "LlamaForSequenceClassification"),
)
